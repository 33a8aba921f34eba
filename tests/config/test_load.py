import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from router.certs import Authority, Pair
from router.config.load import MAX_FILE_BYTES, ConfigError, examine, load
from router.config.schema import Config
from tests.config.conftest import Judge

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "docs" / "examples" / "router.yml"

TEN_MISTAKES = """\
port: 70000
endpoint_timeout: 30
balancing_algorithm: fastest
port: 80
enable_ssl: true
cipher_suites: NONE
nats:
  hosts: localhost
logging:
  level: loud
ca_certs:
  - |
    rubbish
drain_wait: soon
disable_http: perhaps
"""


def in_place_of(value: Any, texts: dict[str, str]) -> Any:
    """Put PEM texts where their names stand in parsed YAML."""
    if isinstance(value, dict):
        return {key: in_place_of(item, texts) for key, item in value.items()}
    if isinstance(value, list):
        return [in_place_of(item, texts) for item in value]
    return texts.get(value, value) if isinstance(value, str) else value


def test_no_file_means_every_default() -> None:
    loaded = load(None)
    assert loaded.config == Config()
    assert loaded.warnings == []


def test_a_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "router.yml"
    path.write_text("port: 80\ndebug_addr: a:1\ntracing: {enable_w3c: true}\ndroplet_stale_threshold: 1s\n")
    loaded = load(path)
    assert loaded.config.port == 80
    assert loaded.config.tracing.enable_w3c
    assert loaded.warnings == ["raised to start_response_delay_interval, 5s (droplet_stale_threshold, line 4)"]


def test_ten_mistakes_are_all_told_with_their_lines(judge: Judge) -> None:
    found = judge(TEN_MISTAKES)
    assert [(error.line, error.key) for error in found.errors] == [
        (1, "port"),
        (2, "endpoint_timeout"),
        (3, "balancing_algorithm"),
        (4, "port"),
        (5, "tls_pem"),
        (5, "client_cert_validation"),
        (6, "cipher_suites"),
        (8, "nats.hosts"),
        (10, "logging.level"),
        (12, "ca_certs[0]"),
        (14, "drain_wait"),
        (15, "disable_http"),
    ]


def test_an_error_of_loading_tells_them_all(tmp_path: Path) -> None:
    path = tmp_path / "router.yml"
    path.write_text(TEN_MISTAKES)
    with pytest.raises(ConfigError) as caught:
        load(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: 12 problems: cannot unmarshal !!int into uint16: `70000`")
    assert "\n" not in text
    assert all(problem.message in text for problem in caught.value.problems)


def test_mistakes_found_before_a_syntax_error_are_told_with_it(judge: Judge) -> None:
    found = judge("port: 1\nport: 2\nstatus: [\n")
    assert [error.line for error in found.errors] == [2, 4]


def test_a_full_deployment_file_is_accepted(judge: Judge, authority: Authority, pair: Pair) -> None:
    texts = {"CHAIN": pair.certificate, "KEY": pair.private_key, "CA": authority.pair.certificate}
    found = judge(yaml.safe_dump(in_place_of(yaml.safe_load((HERE / "bosh.yml").read_text()), texts)))
    assert (found.errors, found.warnings, found.unknown) == ([], [], [])
    assert found.config.trace_key == "22"
    assert found.config.cipher_suites == ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"]
    assert found.config.nats.ca_certs == authority.pair.certificate
    assert {problem.key for problem in found.no_effect} == {
        "ip_local_port_range",
        "load_balancer_healthy_threshold",
        "max_header_bytes",
        "pid_file",
        "websocket_dial_timeout",
    }


def test_the_example_is_accepted_as_it_is() -> None:
    found = examine(EXAMPLE)
    assert (found.errors, found.warnings, found.unknown) == ([], [], [])
    assert found.no_effect == []


def test_the_example_is_accepted_with_every_setting_switched_on(
    judge: Judge, authority: Authority, pair: Pair
) -> None:
    lines = []
    for line in EXAMPLE.read_text().splitlines():
        setting = line[1:] if line.startswith("#") and not (line[1:2] == " " and line[2:3] != " ") else line
        indent = setting[: len(setting) - len(setting.lstrip())]
        what = {"(PEM: its key)": pair.private_key, "(PEM: our client certificate)": pair.certificate}
        if setting.lstrip().startswith("(PEM:"):
            text = what.get(setting.lstrip(), authority.pair.certificate)
            text = pair.certificate if "intermediates" in setting else text
            lines += [indent + part for part in text.splitlines()]
        else:
            lines.append(setting)
    found = judge("\n".join(lines))
    assert (found.errors, found.warnings, found.unknown) == ([], [], [])
    assert found.config.enable_ssl
    assert found.config.nats.tls_enabled
    assert found.config.ca_certs


def test_unknown_keys_are_named_with_what_may_have_been_meant(judge: Judge) -> None:
    found = judge("ssl_prot: 1\nnats: {hosst: []}\nfrobnicate: 1\nmax_header_bytes: 1\n")
    assert not found.errors
    assert [(problem.key, problem.message, problem.line) for problem in found.unknown] == [
        ("ssl_prot", "ignored; did you mean ssl_port?", 1),
        ("nats.hosst", "ignored; did you mean hosts?", 2),
        ("frobnicate", "ignored", 3),
    ]


def test_defaults_without_effect_are_not_worth_a_word(judge: Judge) -> None:
    found = judge("websocket_dial_timeout: 0s\npublish_start_message_interval: 30s\nhealthcheck_timeout: 6s\n")
    assert [problem.key for problem in found.no_effect] == ["healthcheck_timeout"]


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_an_empty_file_means_every_default_with_a_warning(judge: Judge, text: str) -> None:
    found = judge(text)
    assert found.config == Config()
    assert [str(warning) for warning in found.warnings] == ["the file holds no settings; every default applies"]


@pytest.mark.parametrize("text", ["- port: 80", "port"])
def test_a_file_that_is_no_mapping_is_refused(judge: Judge, text: str) -> None:
    assert "a mapping of keys is needed" in judge(text).errors[0].message


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "none.yml"
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: cannot read the file: No such file or directory"


def test_a_directory_is_told(tmp_path: Path) -> None:
    assert examine(tmp_path).errors[0].message == "cannot read the file: Is a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "router.yml"
    path.touch(mode=0)
    assert examine(path).errors[0].message == "cannot read the file: Permission denied"


def test_a_file_of_another_encoding_is_told(tmp_path: Path) -> None:
    path = tmp_path / "router.yml"
    path.write_bytes("port: 80\nzone: Köln\n".encode("latin-1"))
    assert [(error.message, error.line) for error in examine(path).errors] == [("not UTF-8: byte 0xf6", 2)]


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "router.yml"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert examine(path).errors[0].message == "the file is larger than 16 MiB"


def test_a_second_document_is_a_warning(judge: Judge) -> None:
    found = judge("port: 80\n---\nport: 81\n")
    assert found.config.port == 80
    assert [warning.line for warning in found.warnings] == [2]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
NAMES = st.sampled_from(sorted(Config.__struct_encode_fields__))


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(NAMES, VALUES | st.dictionaries(st.sampled_from(["port", "hosts", "tls", "format"]), VALUES))
)
def test_any_values_give_a_config_or_problems(judge: Judge, content: dict[str, object]) -> None:
    found = judge(yaml.safe_dump(content))
    assert all(error.message for error in found.errors)
    assert isinstance(found.config, Config)
