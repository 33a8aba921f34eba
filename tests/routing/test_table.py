"""The table by examples, and against a model that walks labels and segments as plainly as possible."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.routing.pool import Endpoint, Pool
from router.routing.records import EndpointRecord, PoolOptions
from router.routing.routekey import split_uri
from router.routing.table import RouteTable


def make_pool(key: str, *, empty: bool = False) -> Pool:
    pool = Pool(key, "/", PoolOptions())
    if not empty:
        pool.put(Endpoint(1, EndpointRecord("10.0.0.1", 80)), None)
    return pool


def table_of(*uris: str, empty: tuple[str, ...] = ()) -> RouteTable:
    table = RouteTable()
    for uri in (*uris, *empty):
        table.add(make_pool(split_uri(uri)[0], empty=uri in empty))
    return table


def found(table: RouteTable, host: str, path: str = "/") -> str | None:
    pool = table.lookup(host.encode(), path.encode())
    return None if pool is None else pool.key


@pytest.mark.parametrize(
    ("host", "path", "key"),
    [
        ("a.test", "/", "a.test"),
        ("A.Test:8080", "/x?y", "a.test"),
        ("a.test", "/foo", "a.test/foo"),
        ("a.test", "/foo/", "a.test/foo"),
        ("a.test", "/FOO/bar", "a.test/foo"),
        ("a.test", "/foo?/bar/baz", "a.test/foo"),
        ("a.test", "/foobar", "a.test"),
        ("a.test", "/foo/bar/baz", "a.test/foo/bar/baz"),
        ("a.test", "/foo/bar/baz/more/and/more", "a.test/foo/bar/baz"),
        ("a.test", "/f%6fo", "a.test"),
        ("a.test", "/foo%2Fbar", "a.test"),
        ("a.test", "//foo", "a.test"),
        ("b.test", "/", None),
        ("b.test", "/only", "b.test/only"),
        ("x.wild.test", "/", "*.wild.test"),
        ("y.x.wild.test", "/", "*.wild.test"),
        ("near.wild.test", "/", "*.wild.test"),
        ("x.near.wild.test", "/", "*.near.wild.test"),
        ("x.wild.test", "/ctx/1", "*.wild.test/ctx"),
        ("wild.test", "/", None),
        ("*.wild.test", "/", "*.wild.test"),
        ("a.test.", "/", None),
        ("[::1]", "/", None),
        ("", "/", None),
        ("test", "/", None),
    ],
)
def test_lookup_finds_the_nearest_host_and_the_longest_path(host: str, path: str, key: str | None) -> None:
    table = table_of(
        "a.test", "a.test/foo/", "a.test/Foo/bar/baz", "b.test/only", "*.wild.test", "*.wild.test/ctx",
        "*.near.wild.test",
    )  # fmt: skip

    assert found(table, host, path) == key


@pytest.mark.parametrize(("host", "path"), [("unknown.example", "/x.test/y"), ("localhost", "/a.test")])
def test_wildcards_are_not_sought_in_the_path(host: str, path: str) -> None:
    assert found(table_of("*.test", "*.test/y"), host, path) is None


def test_empty_context_path_falls_back_to_a_shorter_one_with_endpoints() -> None:
    table = table_of("a.test", empty=("a.test/x", "a.test/x/y"))

    assert found(table, "a.test", "/x/y") == "a.test"


def test_without_any_endpoints_the_deepest_empty_pool_is_returned() -> None:
    table = table_of(empty=("a.test", "a.test/x"))

    assert found(table, "a.test", "/x/y") == "a.test/x"
    assert found(table, "a.test", "/z") == "a.test"


def test_exact_host_with_an_empty_pool_hides_the_wildcard() -> None:
    assert found(table_of("*.test", empty=("a.test",)), "a.test") == "a.test"


def test_exact_host_without_a_pool_on_the_path_does_not_hide_the_wildcard() -> None:
    table = table_of("*.test", "a.test/x")

    assert found(table, "a.test", "/y") == "*.test"
    assert found(table, "a.test", "/x") == "a.test/x"


def test_removal_uncovers_what_was_hidden() -> None:
    table = table_of("*.test", "a.test", "a.test/x")

    assert found(table, "a.test", "/x") == "a.test/x"
    table.remove("a.test/x")
    assert found(table, "a.test", "/x") == "a.test"
    table.remove("a.test")
    assert found(table, "a.test", "/x") == "*.test"
    table.remove("*.test")
    assert found(table, "a.test", "/x") is None
    assert (len(table), table.pools()) == (0, [])


def test_removal_of_an_unknown_key_changes_nothing() -> None:
    table = table_of("a.test")

    assert table.remove("b.test") is None
    assert table.remove("a.test/x") is None
    assert found(table, "a.test") == "a.test"


def test_pool_replaces_the_one_under_its_key() -> None:
    table = table_of("a.test")
    other = make_pool("a.test")
    table.add(other)

    assert table.lookup(b"a.test", b"/") is other
    assert (table.pool("a.test"), len(table)) == (other, 1)


def test_empty_segment_is_a_context_path_of_its_own() -> None:
    table = table_of("a.test", "a.test//")

    assert split_uri("a.test//")[0] == "a.test/"
    assert found(table, "a.test", "/") == "a.test"
    assert found(table, "a.test", "") == "a.test"
    assert found(table, "a.test", "//") == "a.test/"
    assert found(table, "a.test", "//x") == "a.test/"
    table.remove("a.test/")
    assert found(table, "a.test", "//") == "a.test"


def test_uri_with_a_port_never_matches() -> None:
    assert found(table_of("a.test:8080"), "a.test:8080") is None


def test_lookup_touches_only_nodes_of_its_own_host() -> None:
    table = table_of(*(f"app-{number}.test/p{number}" for number in range(1000)), "a.b.c.test/x/y")

    class Counting(dict[Any, Any]):
        asked = 0

        def get(self, key: Any, default: Any = None) -> Any:
            Counting.asked += 1
            return super().get(key, default)

    table._hosts = Counting(table._hosts)
    assert found(table, "z.b.c.test", "/x/y") is None
    assert Counting.asked <= 4


# Against the model.

HOSTS = ["a.test", "b.a.test", "c.b.a.test", "*.test", "*.a.test", "*.b.a.test", "test"]
PATHS = ["", "/x", "/x/y", "/X/y/z", "//", "/x//", "/x/"]
uris = st.builds(lambda host, path: host + path, st.sampled_from(HOSTS), st.sampled_from(PATHS))
requests = st.tuples(
    st.sampled_from(["a.test", "B.a.test:80", "c.b.a.test", "d.c.b.a.test", "z.test", "test", "q"]),
    st.sampled_from(["/", "/x", "/x/", "/x/y?q=/z", "/x/Y/z/w", "//", "/x//", "/x//y", "/xy", "/a.test", ""]),
)


def nodes(text: str) -> list[str]:
    """Segments of a route key, or of a request's host and path: one slash at the end does not count."""
    return text.partition("?")[0].lower().removesuffix("/").split("/")


def model_walk(pools: dict[str, bool], segments: list[str]) -> str | None:
    """The deepest pool with endpoints along the segments, else the deepest one."""
    here = ["/".join(segments[:count]) for count in range(len(segments), 0, -1)]
    known = [key for key in here if key in pools]
    return next((key for key in known if pools[key]), known[0] if known else None)


def model_lookup(pools: dict[str, bool], host: str, path: str) -> str | None:
    host = host.partition(":")[0]
    labels = host.split(".")
    hosts = [host] + ["*." + ".".join(labels[count:]) for count in range(1, len(labels))]
    return next((key for each in hosts if (key := model_walk(pools, nodes(each + path)))), None)


@settings(deadline=None, derandomize=True, max_examples=400)
@given(
    st.lists(st.tuples(uris, st.booleans(), st.booleans()), max_size=14),
    st.lists(requests, min_size=1, max_size=6),
)
def test_table_agrees_with_the_model(steps: list[tuple[str, bool, bool]], lookups: list[tuple[str, str]]) -> None:
    table, pools = RouteTable(), dict[str, bool]()
    for uri, full, stays in steps:
        key = split_uri(uri)[0]
        table.add(make_pool(key, empty=not full))
        pools[key] = full
        if not stays:
            table.remove(key)
            del pools[key]

    assert sorted(pool.key for pool in table.pools()) == sorted(pools)
    for host, path in lookups:
        assert found(table, host, path) == model_lookup(pools, host, path)
