import pytest

from router.config import build as build_module
from router.config.build import Built, build
from router.config.document import parse_document
from router.config.problems import Problem
from router.config.schema import Config
from router.config.sections import KeyPair, NatsHost


def built(text: str) -> Built:
    errors: list[Problem] = []
    result = build(parse_document(text, errors.append, errors.append))
    assert not errors
    return result


@pytest.mark.parametrize("text", ["", "~", "---\n", "{}", "port:\nnats: ~\ncipher_suites: null\n"])
def test_nothing_given_means_every_default(text: str) -> None:
    result = built(text)
    assert result.config == Config()
    assert (result.problems, result.given) == ([], {})


@pytest.mark.parametrize(
    ("text", "attribute", "value"),
    [
        ("port: 8000", "port", 8000),
        ("port: 0x1F90", "port", 8080),
        ("port: 8_080", "port", 8080),
        ("port: 0o17", "port", 15),
        ("port: 017", "port", 15),
        ("go_max_procs: -1", "go_max_procs", -1),
        ("trace_key: 22", "trace_key", "22"),
        ("trace_key: 1.50", "trace_key", "1.50"),
        ("trace_key: yes", "trace_key", "yes"),
        ("trace_key: '~'", "trace_key", "~"),
        ("enable_ssl: true", "enable_ssl", True),
        ("enable_http2: FALSE", "enable_http2", False),
        ("enable_ssl: on", "enable_ssl", True),
        ("enable_http2: no", "enable_http2", False),
        ("drain_wait: 1m30s", "drain_wait", 90.0),
        ("drain_wait: '0'", "drain_wait", 0.0),
        ("ca_certs: [a, 1]", "ca_certs", ["a", "1"]),
        ("sticky_session_cookie_names: []", "sticky_session_cookie_names", []),
        ("cipher_suites: A:B::C", "cipher_suites", ["A", "B", "C"]),
        (
            "tls_pem: [{cert_chain: c, private_key: k}, {}]",
            "tls_pem",
            [KeyPair(cert_chain="c", private_key="k"), KeyPair()],
        ),
    ],
)
def test_a_value_is_read_as_its_setting_wants_it(text: str, attribute: str, value: object) -> None:
    result = built(text)
    assert not result.problems
    assert getattr(result.config, attribute) == value


def test_nested_sections_and_reserved_names_are_read() -> None:
    text = "nats:\n  hosts: [{hostname: a}, {hostname: b, port: 1}]\n  pass: 007\nstatus: {routes: {port: 1}}\n"
    config = built(text).config
    assert config.nats.hosts == [NatsHost(hostname="a", port=4222), NatsHost(hostname="b", port=1)]
    assert (config.nats.pass_, config.status.routes.port) == ("007", 1)


def test_buckets_are_numbers() -> None:
    config = built("prometheus: {meters: {http_latency_histogram_buckets: [1, 2.5, 1e3]}}").config
    assert config.prometheus.meters.http_latency_histogram_buckets == [1.0, 2.5, 1000.0]


@pytest.mark.parametrize(("text", "port"), [("8080.0", 8080), ("1e3", 1000), ("1_0.0", 10), ("-0.0", 0)])
def test_a_whole_number_may_be_written_with_a_point_or_an_exponent(text: str, port: int) -> None:
    result = built(f"port: {text}")
    assert (result.problems, result.config.port) == ([], port)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port: 7e4", "cannot unmarshal !!float into uint16: `7e4`; 0 to 65535 is allowed"),
        ("port: 1e999", "cannot unmarshal !!float into uint16: `1e999`"),
        ("port: 70000", "cannot unmarshal !!int into uint16: `70000`; 0 to 65535 is allowed"),
        ("port: -1", "cannot unmarshal !!int into uint16: `-1`; 0 to 65535 is allowed"),
        ("port: eighty", "cannot unmarshal !!str into uint16: `eighty`"),
        ("port: '80'", "cannot unmarshal !!str into uint16: `80`"),
        ("port: 80.5", "cannot unmarshal !!float into uint16: `80.5`"),
        ("port: true", "cannot unmarshal !!bool into uint16: `true`"),
        ("port: [80]", "cannot unmarshal !!seq into uint16"),
        ("port: {a: b}", "cannot unmarshal !!map into uint16"),
        ("port: 089", "cannot unmarshal !!int into uint16: `089`; 0 to 65535 is allowed"),
        ("index: -1", "cannot unmarshal !!int into uint: `-1`; 0 to 9223372036854775807 is allowed"),
        ("max_idle_conns: 1" + "0" * 80, "cannot unmarshal !!int into uint: `1000000000...`"),
        ("endpoint_timeout: 30", "cannot unmarshal !!int into time.Duration: `30`; write it with a unit"),
        ("endpoint_timeout: 0", "cannot unmarshal !!int into time.Duration: `0`"),
        ("endpoint_timeout: 1.5", "cannot unmarshal !!float into time.Duration: `1.5`"),
        ("endpoint_timeout: soon", "cannot unmarshal !!str into time.Duration: `soon`; a duration looks like"),
        ("endpoint_timeout: -1s", "negative duration: -1s"),
        ("enable_ssl: 1", "cannot unmarshal !!int into bool: `1`"),
        ("enable_ssl: 'true'", "cannot unmarshal !!str into bool: `true`"),
        ("ca_certs: text", "cannot unmarshal !!str into []string: `text`; a list is needed"),
        ("ca_certs: {a: b}", "cannot unmarshal !!map into []string; a list is needed"),
        ("tls_pem: {cert_chain: a}", "cannot unmarshal !!map into []config.KeyPair; a list is needed"),
        ("nats: text", "cannot unmarshal !!str into config.Nats: `text`; a mapping of keys is needed"),
        ("trace_key: [a]", "cannot unmarshal !!seq into string"),
        ("trace_key: !!binary aGk=", "cannot unmarshal !!binary into string"),
        ("cipher_suites: [a]", "cannot unmarshal !!seq into string"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_in_gorouters_words(text: str, message: str) -> None:
    result = built(text)
    assert [problem.message for problem in result.problems] == [result.problems[0].message]
    assert result.problems[0].message.startswith(message)
    assert result.config == Config()
    assert result.bad == {text.partition(":")[0]}


def test_a_bad_list_item_is_told_with_its_own_path_and_line() -> None:
    result = built("tls_pem:\n- cert_chain: a\n- 3\n-\nca_certs:\n- x\n- [y]\n")
    assert [(problem.key, problem.line) for problem in result.problems] == [
        ("tls_pem[1]", 3),
        ("tls_pem[2]", 4),
        ("ca_certs[1]", 7),
    ]
    assert {"tls_pem", "ca_certs"} <= result.bad


def test_a_long_value_is_not_repeated_in_the_message() -> None:
    secret = "c2VjcmV0" * 10
    assert secret[11:] not in built(f"ca_certs: {secret}").problems[0].message


@pytest.mark.parametrize("text", ["- a", "text", "3"])
def test_a_root_that_is_no_mapping_is_a_mistake(text: str) -> None:
    result = built(text)
    assert "a mapping of keys is needed" in result.problems[0].message
    assert result.problems[0].line == 1


def test_unknown_keys_are_noted_with_their_siblings() -> None:
    result = built("prot: 1\nnats: {hsots: []}\n")
    assert not result.problems
    assert "port" in result.unknown["prot"]
    assert "hosts" in result.unknown["nats.hsots"]
    assert "port" not in result.unknown["nats.hsots"]


def test_what_is_given_is_kept_beside_its_default() -> None:
    result = built("port: 1\nlogging: {level: info}\nnats: {hosts: [{hostname: a}]}\n")
    assert set(result.given) == {"port", "logging.level", "nats.hosts"}
    assert (result.given["port"], result.defaults["port"]) == (1, 8081)
    assert result.defaults["logging.level"] == "debug"


def test_aliases_that_multiply_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "MAX_VALUES", 10_000)
    names = ", ".join(["x"] * 100)
    subjects = ", ".join(["*subject"] * 100)
    rules = "\n".join(["- {valid_cert_subjects: *subjects}"] * 100)
    text = (
        f"a: &subject {{organization: [{names}]}}\nb: &subjects [{subjects}]\n"
        f"verify_client_certificate_metadata:\n{rules}\n"
    )
    assert built(text).problems == [Problem("document contains excessive aliasing")]
