"""The keys that sign tokens, from the configuration and from a file that changes."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from router.config.internal import PolicyApi
from router.control.internal.policy_keys import TokenKeyError, TokenKeys
from router.log import Logger
from tests.support.policies import jwk, public_pem, signing_key

ONE, TWO = signing_key("one"), signing_key("two")


class Keys:
    """A JWKS file, and what is read from it."""

    def __init__(self, path: Path, *entries: dict[str, object], pems: tuple[str, ...] = ()) -> None:
        self.lines: list[dict[str, Any]] = []
        self.path = path / "jwks.json"
        self._writes = 0
        self.write(json.dumps({"keys": entries}))
        config = PolicyApi(jwks_file=str(self.path), jwt_keys=list(pems))
        self.keys = TokenKeys(config, Logger(sink=lambda line: self.lines.append(json.loads(line))))

    def write(self, text: str) -> None:
        """Replace the file as operators should: by another one, so that nobody reads half of it."""
        self._writes += 1
        new = self.path.with_name(f"new-{self._writes}")
        new.write_text(text)
        new.rename(self.path)

    def found(self, key_id: str | None) -> list[int]:
        """Return the moduli of the candidates."""
        return [key.public_numbers().n for key in self.keys.candidates(key_id)]

    def messages(self) -> list[str]:
        return [line["message"] for line in self.lines]


def modulus(key: Any) -> int:
    return int(key.public_key().public_numbers().n)


def refusal(config: PolicyApi) -> str:
    with pytest.raises(TokenKeyError) as caught:
        TokenKeys(config, Logger(sink=lambda _: None))
    return str(caught.value)


def test_named_key_is_the_only_candidate_of_its_name(tmp_path: Path) -> None:
    keys = Keys(tmp_path, jwk(ONE, kid="one"), jwk(TWO, kid="two"))
    assert keys.found("one") == [modulus(ONE)]
    assert keys.found("two") == [modulus(TWO)]


def test_unknown_name_has_no_candidate_among_named_keys(tmp_path: Path) -> None:
    assert Keys(tmp_path, jwk(ONE, kid="one")).found("two") == []


def test_token_without_name_may_be_signed_with_any_key(tmp_path: Path) -> None:
    keys = Keys(tmp_path, jwk(ONE, kid="one"), pems=(public_pem(TWO),))
    assert keys.found(None) == [modulus(TWO), modulus(ONE)]


def test_key_without_name_is_a_candidate_of_every_unknown_name(tmp_path: Path) -> None:
    keys = Keys(tmp_path, jwk(ONE, kid="one"), jwk(TWO))
    assert keys.found("other") == [modulus(TWO)]
    assert keys.found("one") == [modulus(ONE)]


def test_configured_keys_do_without_a_file() -> None:
    keys = TokenKeys(PolicyApi(jwt_keys=[public_pem(ONE), public_pem(TWO)]), Logger(sink=lambda _: None))
    assert [key.public_numbers().n for key in keys.candidates("any")] == [modulus(ONE), modulus(TWO)]


def test_keys_for_other_purposes_are_left_out(tmp_path: Path) -> None:
    others: list[dict[str, object]] = [
        {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "one"},
        {"kty": "EC", "kid": "one"},
        {**jwk(TWO, kid="one"), "alg": "RS512"},
        {**jwk(TWO, kid="one"), "use": "enc"},
    ]
    assert Keys(tmp_path, *others, jwk(ONE, kid="one")).found("one") == [modulus(ONE)]
    assert Keys(tmp_path, jwk(ONE, kid="one"), *others).found("one") == [modulus(ONE)]


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    keys = Keys(tmp_path, jwk(ONE, kid="one"))
    keys.write(json.dumps({"keys": [jwk(TWO, kid="two")]}))
    assert keys.found("two") == [modulus(TWO)]
    assert keys.found("one") == []
    assert keys.messages() == ["token-keys-read"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"keys":[]}', '{"keys":[{"kty":"RSA"}]}', '{"keys":[1]}'])
def test_unusable_file_leaves_the_keys_and_is_logged_once(tmp_path: Path, text: str) -> None:
    keys = Keys(tmp_path, jwk(ONE, kid="one"))
    keys.write(text)
    assert keys.found("one") == keys.found("one") == [modulus(ONE)]
    assert keys.messages() == ["token-keys-not-read"]
    assert str(keys.path) in keys.lines[0]["data"]["error"]


def test_file_that_goes_and_comes_back_is_read_again(tmp_path: Path) -> None:
    keys = Keys(tmp_path, jwk(ONE, kid="one"))
    keys.path.unlink()
    assert keys.found("one") == [modulus(ONE)]
    keys.write(json.dumps({"keys": [jwk(TWO, kid="one")]}))
    assert keys.found("one") == [modulus(TWO)]
    assert keys.messages() == ["token-keys-not-read", "token-keys-read"]


def test_missing_file_is_an_error_of_the_start(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    assert refusal(PolicyApi(jwks_file=str(path))).startswith(f"internal.policy_api.jwks_file: {path}: ")


def test_text_that_is_no_key_is_an_error_naming_its_place() -> None:
    text = refusal(PolicyApi(jwt_keys=[public_pem(ONE), "nonsense"]))
    assert text.startswith("internal.policy_api.jwt_keys[1]: not a public key in PEM: ")


def test_elliptic_key_is_an_error() -> None:
    pem = ec.generate_private_key(ec.SECP256R1()).public_key()
    text = pem.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    assert refusal(PolicyApi(jwt_keys=[text])) == "internal.policy_api.jwt_keys[0]: not an RSA key"


def test_short_key_is_an_error() -> None:
    text = refusal(PolicyApi(jwt_keys=[public_pem(signing_key("short", 1024))]))
    assert text == "internal.policy_api.jwt_keys[0]: 1024 bits, must be at least 2048"
