"""The external API over real connections: every check in its order, byte for byte."""

import asyncio
import json
import re
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from router.config.internal import PolicyApi
from router.control.internal import policy_external
from router.control.internal.policy_checks import DirectoryError
from router.control.internal.policy_external import MAX_BODY_BYTES, duration_text
from router.routing.internal_records import Policy
from tests.support.policies import (
    Answer,
    Served,
    body_of,
    place,
    public_pem,
    serving,
    signing_key,
    token,
    v1,
)

KEY = signing_key("one")
ADMIN = token(KEY, "network.admin")
ALICE = token(KEY, "network.write", spaces=["s1"])
STRANGER = token(KEY, "a", "b")

ALL = "/networking/v1/external/policies"
DELETE = f"{ALL}/delete"
CLEANUP = f"{ALL}/cleanup"
TAGS = "/networking/v1/external/tags"
WHOAMI = "/networking/v1/external/whoami"

OPERATIONS = [
    ("GET", ALL, "network.admin network.write"),
    ("POST", ALL, "network.admin network.write"),
    ("POST", DELETE, "network.admin network.write"),
    ("POST", CLEANUP, "network.admin"),
    ("GET", TAGS, "network.admin"),
    ("GET", WHOAMI, "network.admin"),
]

AB = Policy("a", "b", "tcp", 80, 80)


def signed(**settings: Any) -> AbstractAsyncContextManager[Served]:
    """Run the API with tokens of one key."""
    return serving(PolicyApi(jwt_keys=[public_pem(KEY)], **settings))


def refused(status: int, text: str) -> tuple[int, bytes]:
    return status, f'{{"error": "{text}"}}'.encode()


def outcome(answer: Answer) -> tuple[int, bytes]:
    return answer.status, answer.body


# The checks, row by row.


@pytest.mark.parametrize(("method", "path", "_"), OPERATIONS)
@pytest.mark.parametrize("version", ["v2", "V1", "v", "1", "v1.0"])
async def test_unknown_version_is_told_before_anything_else(method: str, path: str, _: str, version: str) -> None:
    async with signed() as api:
        answer = await api.ask(method, path.replace("v1", version, 1))
    assert outcome(answer) == refused(406, f"api version '{version}' not supported")


async def test_unknown_version_is_written_as_proper_json() -> None:
    async with signed() as api:
        answer = await api.ask("GET", "/networking/v%22%5C%0A%C3%BC/external/policies")
    assert answer.status == 406
    assert json.loads(answer.body) == {"error": "api version 'v\"\\\nü' not supported"}


@pytest.mark.parametrize(("method", "path", "_"), OPERATIONS)
async def test_request_without_token_is_refused(method: str, path: str, _: str) -> None:
    async with signed() as api:
        answer = await api.ask(method, path)
    assert outcome(answer) == refused(401, "missing authorization header")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path", "_"), OPERATIONS)
async def test_request_with_a_token_of_another_key_is_refused(method: str, path: str, _: str) -> None:
    async with signed() as api:
        answer = await api.ask_as(token(signing_key("two"), "network.admin"), method, path)
    assert outcome(answer) == refused(401, "failed to verify token with uaa")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path", "allowed"), OPERATIONS)
async def test_scope_is_missing(method: str, path: str, allowed: str) -> None:
    async with signed() as api:
        answer = await api.ask_as(STRANGER, method, path, b"not even json")
    text = f"provided scopes [a b] do not include allowed scopes [{allowed}]"
    assert outcome(answer) == refused(403, text)
    assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize(("method", "path"), [("POST", CLEANUP), ("GET", TAGS), ("GET", WHOAMI)])
async def test_self_service_opens_nothing_that_is_for_administrators(method: str, path: str) -> None:
    async with signed(enable_space_developer_self_service=True) as api:
        answer = await api.ask_as(ALICE, method, path)
    text = "provided scopes [network.write] do not include allowed scopes [network.admin]"
    assert outcome(answer) == refused(403, text)


async def test_with_self_service_any_token_may_act_in_its_spaces() -> None:
    bob = token(KEY, "openid", spaces=["s1"])
    async with signed(enable_space_developer_self_service=True) as api:
        place(api.hub, a="s1", b="s1")
        assert outcome(await api.ask_as(bob, "POST", ALL, body_of(v1()))) == (200, b"{}")
        assert (await api.ask_as(bob, "GET", ALL)).status == 200
        refusal = await api.ask_as(STRANGER, "POST", ALL, body_of(v1()))
    assert outcome(refusal) == refused(403, "one or more applications cannot be found or accessed")


@pytest.mark.parametrize(
    ("path", "text"), [(ALL, "failed reading request body"), (DELETE, "invalid request body")]
)
async def test_body_of_more_than_10_mib_is_refused(path: str, text: str) -> None:
    async with signed() as api:
        too_long = await api.ask_as(ADMIN, "POST", path, b" " * (MAX_BODY_BYTES + 1))
        just_right = await api.ask_as(ADMIN, "POST", path, body_of(v1()).ljust(MAX_BODY_BYTES))
    assert outcome(too_long) == refused(400, text)
    assert outcome(just_right) == (200, b"{}")


@pytest.mark.parametrize(
    ("path", "text"), [(ALL, "failed reading request body"), (DELETE, "invalid request body")]
)
async def test_body_that_does_not_come_is_refused(path: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_external, "BODY_S", 0.01)
    async with signed() as api:
        answer = await half_sent(api, f"POST {path}", "Content-Length: 100", b'{"policies":')
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(refused(400, text)[1])


async def test_broken_body_is_refused() -> None:
    async with signed() as api:
        answer = await half_sent(api, f"POST {ALL}", "Transfer-Encoding: chunked", b"5\r\n12345\r\nnonsense\r\n")
        assert (await api.ask("GET", "/")).status == 200
    assert re.match(rb"HTTP/1\.[01] 400 ", answer)


async def half_sent(api: Served, line: str, framing: str, body: bytes) -> bytes:
    """Send a head and some of a body, and return the answer."""
    head = f"{line} HTTP/1.1\r\nHost: x\r\nAuthorization: {ADMIN}\r\nConnection: close\r\n{framing}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
    writer.write(head.encode() + body)
    try:
        answer = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", answer)
        assert length is not None
        return answer + await reader.readexactly(int(length[1]))
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("path", [ALL, DELETE])
@pytest.mark.parametrize("body", [b"{", b'{"policies":"x"}', b'{"policies":[{"source":{"id":"\xff"}}]}'])
async def test_what_is_not_json_is_refused(path: str, body: bytes) -> None:
    async with signed() as api:
        answer = await api.ask_as(ADMIN, "POST", path, body)
    assert answer.status == 400
    assert re.fullmatch(rb'\{"error": "mapper: unmarshal json: .+"\}', answer.body)
    assert json.loads(answer.body)


async def test_compressed_body_is_not_inflated() -> None:
    async with signed() as api:
        answer = await api.ask("POST", ALL, body_of(v1()), Authorization=ADMIN, Content_Encoding="gzip")
    assert outcome(answer) == (200, b"{}")


@pytest.mark.parametrize("path", [ALL, DELETE])
@pytest.mark.parametrize(
    ("policies", "text"),
    [
        ([], "missing policies"),
        ([v1(source="")], "missing source id"),
        ([v1(destination="")], "missing destination id"),
        ([v1(), v1(start=9, end=8)], "invalid port range 9-8, start must be less than or equal to end"),
        ([v1(start=0)], "missing start port"),
    ],
)
async def test_invalid_policies_are_refused_and_change_nothing(
    path: str, policies: list[dict[str, Any]], text: str
) -> None:
    async with signed() as api:
        await api.store.add([AB])
        answer = await api.ask_as(ADMIN, "POST", path, body_of(*policies))
        assert api.store.policies == [AB]
    assert outcome(answer) == refused(400, f"mapper: validate policies: {text}")


@pytest.mark.parametrize("path", [ALL, DELETE])
async def test_version_of_the_path_is_that_of_the_body(path: str) -> None:
    async with signed() as api:
        answer = await api.ask_as(ADMIN, "POST", path.replace("v1", "v0"), body_of(v1()))
    assert outcome(answer) == refused(400, "mapper: validate policies: missing port")


@pytest.mark.parametrize("path", [ALL, DELETE])
@pytest.mark.parametrize("policy", [v1("a", "c"), v1("c", "a"), v1("a", "unknown"), v1("unknown", "a")])
async def test_apps_outside_own_spaces_are_refused(path: str, policy: dict[str, Any]) -> None:
    async with signed() as api:
        place(api.hub, a="s1", b="s1", c="s2")
        await api.store.add([Policy("a", "c", "tcp", 80, 80)])
        before = api.store.policies
        answer = await api.ask_as(ALICE, "POST", path, body_of(v1(), policy))
        assert api.store.policies == before
    assert outcome(answer) == refused(403, "one or more applications cannot be found or accessed")


class BrokenDirectory:
    async def spaces(self, apps: Collection[str]) -> dict[str, str]:
        raise DirectoryError("cannot be asked")

    async def dead(self, apps: Collection[str]) -> frozenset[str]:
        raise DirectoryError("cannot be asked")


@pytest.mark.parametrize(
    ("bearer", "method", "path", "text"),
    [
        (ALICE, "POST", ALL, "check access failed"),
        (ALICE, "POST", DELETE, "check access failed"),
        (ALICE, "GET", ALL, "filter policies failed"),
        (ADMIN, "POST", CLEANUP, "policies cleanup failed"),
    ],
)
async def test_broken_directory_is_told(bearer: str, method: str, path: str, text: str) -> None:
    config = PolicyApi(jwt_keys=[public_pem(KEY)])
    async with serving(config, directory=lambda _: BrokenDirectory()) as api:
        answer = await api.ask_as(bearer, method, path, body_of(v1()))
    assert outcome(answer) == refused(500, text)


async def test_quota_counts_what_is_there_and_what_is_asked_for() -> None:
    async with signed(max_policies_per_app_source=2) as api:
        place(api.hub, a="s1", b="s1")
        first = await api.ask_as(ALICE, "POST", ALL, body_of(v1(start=1), v1(start=2)))
        again = await api.ask_as(ALICE, "POST", ALL, body_of(v1(start=1)))
        other = await api.ask_as(ALICE, "POST", ALL, body_of(v1("b", "a")))
        by_admin = await api.ask_as(ADMIN, "POST", ALL, body_of(v1(start=3)))
        assert len(api.store.policies) == 4
    assert outcome(first) == outcome(other) == outcome(by_admin) == (200, b"{}")
    assert outcome(again) == refused(403, "policy quota exceeded")


async def test_requests_at_the_same_time_do_not_exceed_the_quota_together() -> None:
    async with signed(max_policies_per_app_source=3) as api:
        place(api.hub, a="s1", b="s1")
        asked = [api.ask_as(ALICE, "POST", ALL, body_of(v1(start=port))) for port in range(1, 11)]
        answers = [answer.status for answer in await asyncio.gather(*asked)]
        assert len(api.store.policies) == 3
    assert sorted(answers) == [200] * 3 + [403] * 7


@pytest.mark.parametrize(
    ("bearer", "method", "path", "text"),
    [
        (ADMIN, "GET", ALL, "database read failed"),
        (ALICE, "GET", ALL, "database read failed"),
        (ALICE, "POST", ALL, "check quota failed"),
        (ADMIN, "POST", CLEANUP, "policies cleanup failed"),
    ],
)
async def test_policies_that_cannot_be_relied_on_are_not_shown(
    bearer: str, method: str, path: str, text: str
) -> None:
    async with serving(PolicyApi(jwt_keys=[public_pem(KEY)]), ready=False) as api:
        place(api.hub, a="s1", b="s1")
        answer = await api.ask_as(bearer, method, path, body_of(v1()))
    assert outcome(answer) == refused(500, text)


@pytest.mark.parametrize(("path", "text"), [(ALL, "database create failed"), (DELETE, "database delete failed")])
async def test_broken_store_is_told_and_logged(path: str, text: str) -> None:
    async with signed() as api:
        api.store.broken = True
        answer = await api.ask_as(ADMIN, "POST", path, body_of(v1()))
        assert api.logged("policy-store-failed") == [{"reason": text, "error": "the store is broken"}]
        assert api.logged("policies-created") == api.logged("policies-deleted") == []
    assert outcome(answer) == refused(500, text)


async def test_store_that_does_not_answer_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_: list[Policy]) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(policy_external, "STORE_S", 0.01)
    async with signed() as api:
        with monkeypatch.context() as patch:
            patch.setattr(api.store, "add", never)
            answer = await api.ask_as(ADMIN, "POST", ALL, body_of(v1()))
        assert api.logged("policy-store-failed")[0]["error"] == "no answer within 0.01 s"
        assert outcome(await api.ask_as(ADMIN, "POST", ALL, body_of(v1()))) == (200, b"{}")
    assert outcome(answer) == refused(500, "database create failed")


@pytest.mark.parametrize("path", [ALL, DELETE, CLEANUP])
async def test_policies_kept_elsewhere_cannot_be_changed(path: str) -> None:
    async with serving(PolicyApi(jwt_keys=[public_pem(KEY)]), writable=False) as api:
        answer = await api.ask_as(ADMIN, "POST", path, body_of(v1()))
        listed = await api.ask_as(ADMIN, "GET", ALL)
    assert outcome(answer) == refused(403, "policies are read from elsewhere and cannot be changed here")
    assert listed.status == 200


# What operations do.


async def test_created_policies_are_listed_once_however_often_they_are_created() -> None:
    async with signed() as api:
        for _ in range(2):
            assert outcome(await api.ask_as(ADMIN, "POST", ALL, body_of(v1(), v1(), v1("b", "b", 1, 9)))) == (
                200,
                b"{}",
            )
        listed = await api.ask_as(ADMIN, "GET", ALL)
    assert listed.body == (
        b'{"total_policies":2,"policies":['
        b'{"source":{"id":"a"},"destination":{"id":"b","protocol":"tcp","ports":{"start":80,"end":80}}},'
        b'{"source":{"id":"b"},"destination":{"id":"b","protocol":"tcp","ports":{"start":1,"end":9}}}]}'
    )


async def test_v0_creates_and_lists_single_ports() -> None:
    v0 = {"source": {"id": "a"}, "destination": {"id": "b", "protocol": "udp", "port": 53}}
    path = ALL.replace("v1", "v0")
    async with signed() as api:
        await api.store.add([Policy("a", "b", "tcp", 1, 9)])
        assert outcome(await api.ask_as(ADMIN, "POST", path, body_of(v0))) == (200, b"{}")
        listed = await api.ask_as(ADMIN, "GET", path)
        await api.ask_as(ADMIN, "POST", f"{path}/delete", body_of(v0))
        left = await api.ask_as(ADMIN, "GET", path)
    assert json.loads(listed.body) == {"total_policies": 1, "policies": [v0]}
    assert left.body == b'{"total_policies":0,"policies":[]}'


async def test_only_the_exact_policy_is_deleted() -> None:
    wide = Policy("a", "b", "tcp", 8080, 8090)
    async with signed() as api:
        await api.store.add([wide, AB])
        for policy in (v1(start=8080), v1("x", "y"), v1()):
            assert outcome(await api.ask_as(ADMIN, "POST", DELETE, body_of(policy))) == (200, b"{}")
        assert api.store.policies == [wide]


@pytest.mark.parametrize(
    ("query", "listed"),
    [
        ("", ["a", "b", "c"]),
        ("?id=b", ["a", "b"]),
        ("?id=", []),
        ("?id=c&id=a", ["b", "c"]),
        ("?id=a&source_id=c", ["a", "c"]),
        ("?source_id=a,b", ["a", "b"]),
        ("?source_id=a&dest_id=c", []),
        ("?source_id=a&dest_id=b", ["a"]),
        ("?dest_id=b,a", ["a", "c"]),
        ("?other=x", ["a", "b", "c"]),
    ],
)
async def test_listing_is_filtered(query: str, listed: list[str]) -> None:
    ring = [Policy(source, destination, "tcp", 1, 1) for source, destination in ("ab", "bc", "ca")]
    async with signed() as api:
        await api.store.add(ring)
        answer = json.loads((await api.ask_as(ADMIN, "GET", ALL + query)).body)
    assert [policy["source"]["id"] for policy in answer["policies"]] == listed
    assert answer["total_policies"] == len(listed)


async def test_others_see_only_policies_inside_their_spaces() -> None:
    ring = [Policy(source, destination, "tcp", 1, 1) for source, destination in ("ab", "bc", "ca")]
    async with signed() as api:
        place(api.hub, a="s1", b="s1", c="s2")
        await api.store.add(ring)
        answer = json.loads((await api.ask_as(ALICE, "GET", ALL)).body)
    assert [policy["source"]["id"] for policy in answer["policies"]] == ["a"]
    assert answer["total_policies"] == 1


async def test_cleanup_removes_nothing_if_no_directory_knows_dead_apps() -> None:
    async with signed() as api:
        await api.store.add([AB])
        answer = await api.ask_as(ADMIN, "POST", CLEANUP)
        assert api.store.policies == [AB]
    assert outcome(answer) == (200, b'{"total_policies":0,"policies":[]}')


class Graveyard:
    """A directory that knows of one dead app."""

    async def spaces(self, apps: Collection[str]) -> dict[str, str]:
        return {}

    async def dead(self, apps: Collection[str]) -> frozenset[str]:
        return frozenset(apps) & {"dead"}


@pytest.mark.parametrize("version", ["v0", "v1"])
async def test_cleanup_removes_policies_from_and_to_dead_apps_and_returns_them(version: str) -> None:
    config = PolicyApi(jwt_keys=[public_pem(KEY)])
    async with serving(config, directory=lambda _: Graveyard()) as api:
        await api.store.add([AB, Policy("a", "dead", "tcp", 1, 2), Policy("dead", "b", "udp", 3, 3)])
        answer = await api.ask_as(ADMIN, "POST", CLEANUP.replace("v1", version))
        assert api.store.policies == [AB]
        assert api.logged("policies-cleaned-up")[0]["count"] == 2
    assert answer.body == (
        b'{"total_policies":2,"policies":['
        b'{"source":{"id":"a"},"destination":{"id":"dead","protocol":"tcp","ports":{"start":1,"end":2}}},'
        b'{"source":{"id":"dead"},"destination":{"id":"b","protocol":"udp","ports":{"start":3,"end":3}}}]}'
    )


async def test_tags_are_listed_by_number() -> None:
    async with signed() as api:
        await api.store.add([AB])
        answer = await api.ask_as(ADMIN, "GET", TAGS)
    assert answer.body == (b'{"tags":[{"id":"a","tag":"0001","type":"app"},{"id":"b","tag":"0002","type":"app"}]}')


async def test_whoami_tells_the_user_and_else_the_client() -> None:
    async with signed() as api:
        user = await api.ask_as(ADMIN, "GET", WHOAMI)
        client = await api.ask_as(token(KEY, "network.admin", user_name=None, sub='c"1'), "GET", WHOAMI)
    assert user.body == b'{"subject":"alice"}'
    assert client.body == b'{"subject":"c\\"1"}'


async def test_api_without_authentication_serves_its_own_machine() -> None:
    async with serving() as api:
        assert outcome(await api.ask("POST", ALL, body_of(v1()))) == (200, b"{}")
        refusal = await api.ask("POST", ALL, body_of(v1("x", "y")), Origin="https://evil.example")
        assert api.store.policies == [AB]
    assert outcome(refusal) == refused(403, "without authentication, web pages may not call this API")


# What anybody may ask.


@pytest.mark.parametrize("path", ["/", "/networking"])
async def test_uptime_is_told_without_token_and_without_policies(path: str) -> None:
    now = [100.0]
    async with serving(PolicyApi(admin_token="x"), ready=False, clock=lambda: now[0]) as api:
        now[0] += 3723.9
        answer = await api.ask("GET", path)
    assert outcome(answer) == (200, b"Network policy server, up for 1h2m3s\n")


async def test_health_is_that_of_the_policies() -> None:
    async with serving(PolicyApi(admin_token="x"), ready=False) as api:
        ill = await api.ask("GET", "/health")
        api.hub.set_ready(policies=True)
        well = await api.ask("GET", "/health")
    assert outcome(ill) == refused(500, "check database failed")
    assert outcome(well) == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/x",
        "/networking/",
        "/networking/v1",
        "/networking/v1/external",
        f"{ALL}/",
        "/networking/v1/internal/policies",
    ],
)
async def test_unknown_path_is_not_found(path: str) -> None:
    async with signed() as api:
        answer = await api.ask_as(ADMIN, "GET", path)
    assert outcome(answer) == (404, b"404 page not found\n")


async def test_unknown_method_is_not_allowed() -> None:
    async with signed() as api:
        answer = await api.ask_as(ADMIN, "DELETE", ALL)
    assert outcome(answer) == (405, b"Method Not Allowed\n")
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS, POST"


# Headers.


@pytest.mark.parametrize("path", ["/", "/health", ALL, "/x"])
async def test_every_answer_carries_the_security_headers(path: str) -> None:
    async with signed() as api:
        answer = await api.ask("GET", path)
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Frame-Options"] == "deny"
    assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert answer.headers["X-XSS-Protection"] == "1; mode=block"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Strict-Transport-Security" not in answer.headers
    assert "Server" not in answer.headers


@pytest.mark.parametrize(("method", "path", "_"), OPERATIONS)
@pytest.mark.parametrize("version", ["v0", "v1", "v7"])
async def test_preflight_needs_no_token(method: str, path: str, _: str, version: str) -> None:
    async with signed(allowed_cors_domains=["https://ui.example"]) as api:
        answer = await api.ask("OPTIONS", path.replace("v1", version), Origin="https://ui.example")
    assert outcome(answer) == (200, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == "https://ui.example"
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization"
    assert method in answer.headers["Access-Control-Allow-Methods"].split(",")


@pytest.mark.parametrize(
    ("allowed", "origin", "found"),
    [
        ([], "https://ui.example", None),
        (["https://ui.example"], "https://ui.example", "https://ui.example"),
        (["https://ui.example"], "https://ui.example.evil", None),
        (["https://ui.example"], "null", None),
        (["*"], "https://anything.example", "*"),
    ],
)
async def test_origin_is_allowed_if_listed(allowed: list[str], origin: str, found: str | None) -> None:
    async with signed(allowed_cors_domains=allowed) as api:
        preflight = await api.ask("OPTIONS", ALL, Origin=origin)
        answer = await api.ask("GET", ALL, Origin=origin, Authorization=ADMIN)
        refusal = await api.ask("GET", ALL, Origin=origin)
    for each in (preflight, answer, refusal):
        assert each.headers.get("Access-Control-Allow-Origin") == found
    assert ("Access-Control-Allow-Methods" in preflight.headers) is (found is not None)
    assert "Access-Control-Allow-Headers" not in answer.headers
    assert (answer.headers.get("Vary") == "Origin") is (allowed == ["https://ui.example"])


# The audit log.


async def test_changes_are_logged_with_who_made_them() -> None:
    async with signed() as api:
        await api.ask_as(ADMIN, "POST", ALL, body_of(v1(), v1(start=1, end=9)))
        await api.ask_as(ADMIN, "POST", DELETE, body_of(v1()))
        created, deleted = api.logged("policies-created"), api.logged("policies-deleted")
    who = {"subject": "alice", "client": "127.0.0.1"}
    assert created == [{**who, "count": 2, "policies": ["a -> b tcp 80", "a -> b tcp 1-9"]}]
    assert deleted == [{**who, "count": 1, "policies": ["a -> b tcp 80"]}]


async def test_long_changes_are_logged_with_their_length_and_beginning() -> None:
    async with signed() as api:
        await api.ask_as(ADMIN, "POST", ALL, body_of(*(v1(start=port) for port in range(1, 151))))
        (created,) = api.logged("policies-created")
    assert created["count"] == 150
    assert len(created["policies"]) == 100


async def test_denials_are_logged_with_who_and_why_but_never_with_the_token() -> None:
    async with signed() as api:
        await api.ask("GET", ALL)
        await api.ask_as("s3cret-but-wrong", "GET", ALL)
        await api.ask_as(ALICE, "POST", ALL, body_of(v1("x", "y")))
        found = [(line["status"], line["subject"], line["reason"]) for line in api.logged("policy-request-denied")]
        text = json.dumps(api.lines)
    assert found == [
        (401, "", "missing authorization header"),
        (401, "", "failed to verify token with uaa"),
        (403, "alice", "one or more applications cannot be found or accessed"),
    ]
    assert "s3cret" not in text
    assert ALICE.rpartition(".")[2] not in text


async def test_flood_of_denials_does_not_flood_the_log() -> None:
    async with serving(PolicyApi(admin_token="x"), clock=lambda: 0.0) as api:
        for _ in range(30):
            await api.ask("GET", ALL)
        assert len(api.logged("policy-request-denied")) == 20


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (60, "1m0s"), (3600, "1h0m0s"), (90_061, "25h1m1s")]
)
def test_duration_is_written_as_go_does(seconds: int, text: str) -> None:
    assert duration_text(seconds) == text
