import msgspec

from router.routing.registrations import RegistryRules
from router.routing.registry import Registry
from tests.support.registry import announced


def test_document_has_gorouters_fields_in_gorouters_order() -> None:
    table = Registry(RegistryRules())
    table.register(
        announced(
            "App.test/Ctx",
            host="10.0.0.9",
            port=61001,
            tls=True,
            app="never shown",
            instance_id="id",
            instance_index="0",
            isolation_segment="segment",
            san="san",
            tags={"component": "x"},
            availability_zone="az1",
            route_service_url="https://rs.test",
            algorithm="hash",
            hash_header="X-Tenant",
            hash_balance=1.25,
            weight=0,
        ),
        0.0,
    )

    assert b"".join(table.routes_json()) == (
        b'{"app.test/ctx":[{"address":"10.0.0.9:61001","availability_zone":"az1","protocol":"http1","tls":true,'
        b'"ttl":120,"route_service_url":"https://rs.test","tags":{"component":"x"},"isolation_segment":"segment",'
        b'"private_instance_id":"id","server_cert_domain_san":"san","load_balancing_algorithm":"hash",'
        b'"hash_header":"X-Tenant","hash_balance":"1.25","weight":0}]}\n'
    )


def test_optional_fields_are_left_out_and_missing_tags_are_null() -> None:
    table = Registry(RegistryRules())
    table.register(announced("a.test", stale_threshold_s=30), 0.0)

    assert b"".join(table.routes_json()) == (
        b'{"a.test":[{"address":"10.0.0.1:80","availability_zone":"","protocol":"http1","tls":false,"ttl":30,'
        b'"tags":null}]}\n'
    )


def test_keys_are_sorted_and_kept_empty_pools_are_empty_lists() -> None:
    table = Registry(RegistryRules(empty_pool_503=True, empty_pool_timeout_s=9.0))
    for key in ("c.test", "a.test", "b.test/x", "b.test"):
        table.register(announced(key), 0.0)
    table.unregister(announced("b.test"), 0.0)
    document = msgspec.json.decode(b"".join(table.routes_json(2)))

    assert list(document) == ["a.test", "b.test", "b.test/x", "c.test"]
    assert document["b.test"] == []


def test_empty_table_is_an_empty_object() -> None:
    assert b"".join(Registry(RegistryRules()).routes_json()) == b"{}\n"


def test_document_stays_whole_while_routes_come_and_go() -> None:
    table = Registry(RegistryRules())
    for number in range(9):
        table.register(announced(f"{number}.test"), 0.0)
    pieces = table.routes_json(2)
    first = next(pieces)
    for number in (2, 3, 6):
        table.unregister(announced(f"{number}.test"), 0.0)
    table.register(announced("late.test"), 0.0)

    assert list(msgspec.json.decode(first + b"".join(pieces))) == [
        f"{number}.test" for number in (0, 1, 4, 5, 7, 8)
    ]


def test_document_is_whole_even_if_every_route_goes_before_its_first_piece() -> None:
    table = Registry(RegistryRules())
    table.register(announced("a.test"), 0.0)
    pieces = table.routes_json()
    table.unregister(announced("a.test"), 0.0)

    assert b"".join(pieces) == b"{}\n"


def test_strange_keys_are_json_all_the_same() -> None:
    table = Registry(RegistryRules())
    table.register(announced('"quoted\\".test/é'), 0.0)

    assert list(msgspec.json.decode(b"".join(table.routes_json()))) == ['"quoted\\".test/é']


def test_texts_are_escaped_and_tags_sorted_as_go_does() -> None:
    table = Registry(RegistryRules())
    table.register(
        announced(
            "a&b.test", route_service_url="https://rs.test/?a=1&b=2", tags={"b": "<1>", "a": "x\u2028y\u2029z"}
        ),
        0.0,
    )

    document = b"".join(table.routes_json())

    assert document.startswith(rb'{"a\u0026b.test":[')
    assert rb'"route_service_url":"https://rs.test/?a=1\u0026b=2"' in document
    assert rb'"tags":{"a":"x\u2028y\u2029z","b":"\u003c1\u003e"}' in document
