"""The commands against a real policy API."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec import structs

from router.certs import issue, make_ca
from router.cli import cli
from router.commands import add_commands
from router.config.internal import PolicyApi
from tests.support.bucket import policy
from tests.support.policies import Served, serving

TOKEN = "a-token-of-some-length"
NATS = {"hosts": [{"hostname": "127.0.0.1", "port": 4222}]}
add_commands(cli)


async def run(*arguments: str) -> Result:
    """Run the command beside the API, which lives in this thread's event loop."""
    return await asyncio.to_thread(CliRunner().invoke, cli, ["policy", *arguments])


def config_file(directory: Path, served: Served, **settings: object) -> str:
    port = int(served.url.rpartition(":")[2])
    path = directory / "router.yml"
    api = {"port": port, **settings}
    path.write_text(json.dumps({"nats": NATS, "internal": {"policy_api": api}}))
    return str(path)


async def test_a_policy_is_added_listed_and_removed() -> None:
    async with serving() as served:
        added = await run("add", "front", "back", "--port", "5000-5010", "--protocol", "udp", "--api", served.url)
        assert (added.exit_code, added.output) == (0, "allowed: front -> back udp 5000-5010\n")
        assert served.store.policies == [policy("front", "back", 5000, 5010, "udp")]
        again = await run("add", "front", "back", "--port", "5000-5010", "--protocol", "udp", "--api", served.url)
        assert again.exit_code == 0
        await run("add", "a", "b", "--port", "80", "--api", served.url)
        listed = await run("list", "--api", served.url)
        assert listed.output == "a\tb\ttcp\t80\nfront\tback\tudp\t5000-5010\n"
        removed = await run("remove", "a", "b", "--port", "80", "--api", served.url)
        assert (removed.exit_code, removed.output) == (0, "no longer allowed: a -> b tcp 80\n")
        assert served.store.policies == [policy("front", "back", 5000, 5010, "udp")]


async def test_removing_what_is_not_there_fails_and_shows_what_is() -> None:
    async with serving() as served:
        await served.store.add([policy("a", "b", 8080, 8090), policy("a", "c", 1)])
        result = await run("remove", "a", "b", "--port", "8080", "--api", served.url)
        assert result.exit_code == 1
        assert result.output == (
            "router: there is no such policy: a -> b tcp 8080\nrouter: there is: a -> b tcp 8080-8090\n"
        )
        assert len(served.store.policies) == 2


async def test_a_listing_can_be_narrowed() -> None:
    async with serving() as served:
        await served.store.add([policy("a", "b"), policy("a", "c"), policy("c", "b")])
        assert (await run("list", "--source", "a", "--api", served.url)).output == "a\tb\ttcp\t80\na\tc\ttcp\t80\n"
        assert (await run("list", "--destination", "b", "--source", "c", "--api", served.url)).output == (
            "c\tb\ttcp\t80\n"
        )
        assert (await run("list", "--source", "nobody", "--api", served.url)).output == ""


async def test_json_is_what_the_api_takes() -> None:
    async with serving() as served:
        await served.store.add([policy("a", "b", 1, 9)])
        listed = json.loads((await run("list", "--json", "--api", served.url)).output)
        ports = {"start": 1, "end": 9}
        assert listed == {
            "policies": [{"source": {"id": "a"}, "destination": {"id": "b", "protocol": "tcp", "ports": ports}}]
        }


async def test_control_characters_do_not_reach_the_terminal() -> None:
    async with serving() as served:
        await served.store.add([policy("a\x1b[2J", "b\tc")])
        listed = await run("list", "--api", served.url)
        assert listed.output == "a\N{REPLACEMENT CHARACTER}[2J\tb\N{REPLACEMENT CHARACTER}c\ttcp\t80\n"


async def test_a_token_is_needed_where_the_api_wants_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(PolicyApi(admin_token=TOKEN)) as served:
        refused = await run("list", "--api", served.url)
        assert refused.exit_code == 1
        assert "does not know the caller: missing authorization header; give a token" in refused.output
        wrong = await run("list", "--api", served.url, "--token", "another")
        assert "is the token right" in wrong.output
        assert "another" not in wrong.output
        assert (await run("list", "--api", served.url, "--token", TOKEN)).exit_code == 0
        monkeypatch.setenv("ROUTER_POLICY_TOKEN", TOKEN)
        assert (await run("list", "--api", served.url)).exit_code == 0


async def test_the_routers_configuration_tells_where_the_api_is(tmp_path: Path) -> None:
    async with serving(PolicyApi(admin_token=TOKEN)) as served:
        path = config_file(tmp_path, served, admin_token=TOKEN)
        assert (await run("add", "a", "b", "--port", "80", "-c", path)).output == "allowed: a -> b tcp 80\n"
        both = await run("list", "-c", path, "--api", served.url)
        assert both.exit_code == 2


async def test_the_apis_own_certificate_is_trusted_by_its_configuration(tmp_path: Path) -> None:
    ca = make_ca("api")
    pair = issue(ca, ["policy.example.com"])
    tls = {"cert_chain": pair.certificate, "private_key": pair.private_key}
    async with serving(structs.replace(PolicyApi(), **tls)) as served:
        path = config_file(tmp_path, served, **tls)
        assert (await run("list", "-c", path)).exit_code == 0
        other = issue(ca, ["policy.example.com"])
        path = config_file(tmp_path, served, cert_chain=other.certificate, private_key=other.private_key)
        refused = await run("list", "-c", path)
        assert refused.exit_code == 1
        assert "CERTIFICATE_VERIFY_FAILED" in refused.output


async def test_what_the_api_refuses_is_said_with_its_reason() -> None:
    async with serving() as served:
        served.store.broken = True
        result = await run("add", "a", "b", "--port", "80", "--api", served.url)
        assert result.exit_code == 1
        assert "refuses: database create failed" in result.output


async def test_an_api_that_is_switched_off_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "router.yml"
    path.write_text(json.dumps({"nats": NATS}))
    result = await run("list", "-c", str(path))
    assert (result.exit_code, "internal.policy_api.port is 0" in result.output) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["add", "a", "b", "--port", "90-80"], "behind the last"),
        (["add", "a", "b", "--port", "80", "--protocol", "icmp"], "icmp"),
        (["add", "a", "--port", "80"], "Missing argument"),
        (["remove", "a", "b"], "--port"),
        (["nft", "--url", "x", "--state", "y"], "give one of"),
        (["nft", "--every", "1"], "--apply"),
    ],
)
async def test_wrong_arguments_end_with_status_2(arguments: list[str], error: str) -> None:
    result = await run(*arguments)
    assert result.exit_code == 2
    assert error in result.output


STATE = {
    "policies_ready": True,
    "container_networks": ["10.255.0.0/16"],
    "addresses": ["10.255.0.1"],
    "identities": [{"ip": "10.255.1.2", "app": "a"}, {"ip": "10.255.1.3", "app": "b"}],
    "policies": [{"source": "a", "destination": "b", "protocol": "tcp", "start": 80, "end": 80}],
}


async def test_rules_are_rendered_from_a_saved_state(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(json.dumps(STATE))
    result = await run("nft", "--state", str(path))
    assert result.exit_code == 0
    assert "10.255.1.2 . 10.255.1.3 . tcp . 80," in result.stdout
    assert "no host route" in result.stderr


async def test_a_state_that_cannot_be_used_renders_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    missing = await run("nft", "--state", str(path))
    assert (missing.exit_code, "No such file" in missing.output) == (1, True)
    path.write_text(json.dumps({**STATE, "policies_ready": False}))
    early = await run("nft", "--state", str(path))
    assert (early.exit_code, early.stdout) == (1, "")
    assert "does not know the policies yet" in early.stderr


async def test_a_router_that_is_away_renders_nothing() -> None:
    result = await run("nft", "--url", "http://127.0.0.1:1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no router answers at http://127.0.0.1:1/internal" in result.stderr
