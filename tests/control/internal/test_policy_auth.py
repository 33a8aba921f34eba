"""Which requests are whose; above all, which are nobody's."""

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from router.config.internal import PolicyApi
from router.control.internal.policy_auth import AuthenticationError, Authenticator, Caller
from router.control.internal.policy_keys import TokenKeys
from router.log import Logger
from tests.support.policies import jwk, public_pem, signing_key, token, unsigned

KEY, OTHER = signing_key("one"), signing_key("two")
LOCAL = {"Host": "127.0.0.1:4002"}
REFUSED = "failed to verify token with uaa"


def authenticator(**settings: Any) -> Authenticator:
    config = PolicyApi(**settings)
    return Authenticator(config, TokenKeys(config, Logger(sink=lambda _: None)))


SIGNED = authenticator(jwt_keys=[public_pem(KEY)])
STATIC = authenticator(admin_token="s3cret")
OPEN = authenticator()


def caller(bearer: str, by: Authenticator = SIGNED) -> Caller:
    return by.caller({"Authorization": f"Bearer {bearer}"})


def refusal(headers: dict[str, str], by: Authenticator = SIGNED) -> tuple[int, str]:
    with pytest.raises(AuthenticationError) as caught:
        by.caller(headers)
    return caught.value.status, str(caught.value)


def is_refused(bearer: str, by: Authenticator = SIGNED) -> bool:
    return refusal({"Authorization": f"Bearer {bearer}"}, by) == (401, REFUSED)


def test_caller_is_who_the_token_says() -> None:
    found = caller(token(KEY, "network.write", "openid", spaces=["s1", "s2"]))
    assert found == Caller("alice", ("network.write", "openid"), frozenset({"s1", "s2"}))
    assert not found.is_admin


def test_caller_without_user_name_is_its_subject() -> None:
    assert caller(token(KEY, "network.admin", user_name=None)).subject == "user-guid"


def test_admin_scope_makes_an_administrator() -> None:
    assert caller(token(KEY, "network.admin")).is_admin


@pytest.mark.parametrize(("prefix"), ["Bearer ", "bearer ", ""])
def test_prefix_of_the_token_may_be_written_in_three_ways(prefix: str) -> None:
    assert SIGNED.caller({"Authorization": prefix + token(KEY, "network.admin")}).is_admin


@pytest.mark.parametrize("prefix", ["Basic ", "BEARER ", "bearer bearer ", "Bearer  "])
def test_other_prefixes_are_refused(prefix: str) -> None:
    assert refusal({"Authorization": prefix + token(KEY, "network.admin")}) == (401, REFUSED)


def test_scopes_may_be_text() -> None:
    assert caller(token(KEY, scope="network.admin other")).scopes == ("network.admin", "other")


@pytest.mark.parametrize("value", [1, None, {"network.admin": 1}, [["network.admin"]]])
def test_scopes_of_another_type_are_none(value: object) -> None:
    assert caller(token(KEY, scope=value)).scopes == ()


@pytest.mark.parametrize("value", ["s1", 1, {"s1": 1}, [1]])
def test_spaces_of_another_type_are_none(value: object) -> None:
    assert caller(token(KEY, spaces=value)).spaces == frozenset()


def test_request_without_header_is_refused() -> None:
    assert refusal({}) == (401, "missing authorization header")


@pytest.mark.parametrize(
    "bearer", ["", "x", "a.b.c", "..", "é", "\udcff", "e30.e30.e30", "bnVsbA.e30.", "W10.e30.", "W" * 60_000]
)
def test_what_is_no_token_is_refused(bearer: str) -> None:
    assert is_refused(bearer)


def test_header_of_deeply_nested_json_is_refused() -> None:
    deep = base64.urlsafe_b64encode(b'{"alg":' + b"[" * 30_000).rstrip(b"=").decode()
    assert is_refused(f"{deep}.e30.e30")


def test_expired_token_is_refused() -> None:
    assert is_refused(token(KEY, "network.admin", exp=int(time.time()) - 3600))


def test_clocks_may_differ_a_little() -> None:
    now = int(time.time())
    assert caller(token(KEY, "network.admin", exp=now - 5, iat=now + 5, nbf=now + 5)).is_admin


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": None},
        {"exp": "never"},
        {"exp": float("inf")},
        {"nbf": int(time.time()) + 3600},
        {"iat": int(time.time()) + 3600},
        {"aud": None},
        {"aud": "cloud_controller"},
        {"aud": ["cloud_controller", "networks"]},
        {"aud": []},
        {"jti": "0123-r"},
    ],
)
def test_token_with_wrong_claims_is_refused(claims: dict[str, Any]) -> None:
    assert is_refused(token(KEY, "network.admin", **claims))


def test_audience_is_as_configured() -> None:
    by = authenticator(jwt_keys=[public_pem(KEY)], audience="router")
    assert caller(token(KEY, "network.admin", aud="router"), by).is_admin
    assert is_refused(token(KEY, "network.admin"), by)


def test_empty_audience_takes_tokens_for_anybody() -> None:
    by = authenticator(jwt_keys=[public_pem(KEY)], audience="")
    assert caller(token(KEY, "network.admin", aud=None), by).is_admin
    assert caller(token(KEY, "network.admin"), by).is_admin


def test_issuer_is_as_configured() -> None:
    by = authenticator(jwt_keys=[public_pem(KEY)], issuer="https://uaa.example.com/oauth/token")
    assert caller(token(KEY, "network.admin", iss="https://uaa.example.com/oauth/token"), by).is_admin
    assert is_refused(token(KEY, "network.admin", iss="https://uaa.evil.example/oauth/token"), by)
    assert is_refused(token(KEY, "network.admin"), by)


def test_token_signed_with_another_key_is_refused() -> None:
    assert is_refused(token(OTHER, "network.admin"))


def test_any_configured_key_may_have_signed() -> None:
    by = authenticator(jwt_keys=[public_pem(OTHER), public_pem(KEY)])
    assert caller(token(KEY, "network.admin"), by).is_admin


def test_unknown_key_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [jwk(KEY, kid="key-1")]}))
    by = authenticator(jwks_file=str(path))
    assert caller(token(KEY, "network.admin", key_id="key-1"), by).is_admin
    assert is_refused(token(KEY, "network.admin", key_id="key-2"), by)
    assert is_refused(token(OTHER, "network.admin", key_id="key-1"), by)


def claims() -> dict[str, object]:
    return {"sub": "x", "scope": ["network.admin"], "aud": "network", "exp": int(time.time()) + 600}


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("signature", ["", "e30"])
def test_token_without_algorithm_is_refused(name: str, signature: str) -> None:
    assert is_refused(f"{unsigned({'alg': name, 'typ': 'JWT'}, claims())}.{signature}")


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512", "RS256"])
@pytest.mark.parametrize("secret", [public_pem(KEY), public_pem(KEY).strip(), ""])
def test_token_with_an_hmac_made_from_the_public_key_is_refused(algorithm: str, secret: str) -> None:
    content = unsigned({"alg": algorithm, "typ": "JWT"}, claims())
    digest = {"HS384": hashlib.sha384, "HS512": hashlib.sha512}.get(algorithm, hashlib.sha256)
    signature = hmac.new(secret.encode(), content.encode(), digest).digest()
    assert is_refused(f"{content}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}")


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
def test_right_key_with_another_algorithm_is_refused(algorithm: str) -> None:
    assert is_refused(jwt.encode(claims(), KEY, algorithm=algorithm))


def test_key_that_a_token_brings_along_is_not_used() -> None:
    bearer = jwt.encode(
        claims(), OTHER, algorithm="RS256", headers={"jwk": jwk(OTHER), "jku": "https://evil.example/keys"}
    )
    assert is_refused(bearer)


def test_changed_claims_are_refused() -> None:
    head, content, signature = token(KEY, "network.write").split(".")
    better = base64.urlsafe_b64encode(
        base64.urlsafe_b64decode(content + "==").replace(b"network.write", b"network.admin")
    )
    assert is_refused(".".join([head, better.rstrip(b"=").decode(), signature]))


def test_admin_token_makes_an_administrator() -> None:
    found = caller("s3cret", STATIC)
    assert found.is_admin
    assert found.subject == "admin-token"


@pytest.mark.parametrize("bearer", ["", "s3cre", "s3cret ", "S3CRET", "s3cret\udcff", "é"])
def test_anything_but_the_admin_token_is_refused(bearer: str) -> None:
    assert is_refused(bearer, STATIC)


def test_signed_token_is_refused_where_only_the_admin_token_is_known() -> None:
    assert is_refused(token(KEY, "network.admin"), STATIC)


def test_empty_admin_token_is_none() -> None:
    assert is_refused("", SIGNED)


def test_without_authentication_everybody_is_an_administrator() -> None:
    assert OPEN.caller(LOCAL).is_admin
    assert OPEN.caller({**LOCAL, "Authorization": "anything"}).is_admin


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:4002"])
def test_without_authentication_any_name_of_loopback_will_do(host: str) -> None:
    assert OPEN.caller({"Host": host}).is_admin


@pytest.mark.parametrize("host", ["", "evil.example:4002", "localhost.evil.example", "10.0.0.1", "[::2]", "::1"])
def test_without_authentication_other_hosts_are_refused(host: str) -> None:
    """A page may give its own name the address 127.0.0.1."""
    status, text = refusal({"Host": host}, OPEN)
    assert (status, text) == (403, "without authentication, this API must be called by a loopback address")


def test_without_authentication_pages_are_refused() -> None:
    status, text = refusal({**LOCAL, "Origin": "https://evil.example"}, OPEN)
    assert (status, text) == (403, "without authentication, web pages may not call this API")


@pytest.mark.parametrize("allowed", ["https://ui.example", "*"])
def test_without_authentication_listed_pages_are_let_in(allowed: str) -> None:
    by = authenticator(allowed_cors_domains=[allowed])
    assert by.caller({**LOCAL, "Origin": "https://ui.example"}).is_admin
