"""The configuration file, and the command line over it."""

from pathlib import Path

import pytest
import yaml

from router.docker.engine import Place
from router.docker.labels import read_labels
from router.docker.settings import Options, Settings, SettingsError, default_socket, load_settings, read_settings
from router.registrar import TlsFiles


def test_nothing_is_needed(tmp_path: Path) -> None:
    file = tmp_path / "docker.yml"
    file.write_text("# nothing\n")
    assert load_settings(file, Options()) == load_settings(None, Options())
    settings = load_settings(None, Options())
    assert settings.control_socket == default_socket()
    assert (settings.sync_interval_s, settings.identity_ttl_s) == (30.0, 120.0)
    assert settings.agent_id()
    assert settings.ground().host


def test_every_key_is_read() -> None:
    settings = read_settings(
        """
        enabled: false
        agent: cell-7
        host: 10.0.0.7
        domain: apps.test
        networks: [a, b]
        availability_zone: z1
        tags: {cell: "7"}
        sync_interval: 10s
        identity_ttl: 1m
        control_socket: /run/x.sock
        engine: {url: "tcp://10.0.0.8:2376", ca: ca.pem, certificate: c.pem, key: k.pem}
        nats: {servers: ["nats://a:1", "nats://b:2"], ca: n.pem}
        """
    )
    assert not settings.enabled
    assert settings.agent_id() == "cell-7"
    ground = settings.ground()
    assert (ground.host, ground.domain, ground.networks) == ("10.0.0.7", "apps.test", ("a", "b"))
    assert (ground.availability_zone, ground.tags) == ("z1", {"cell": "7"})
    assert (settings.sync_interval_s, settings.identity_ttl_s) == (10.0, 60.0)
    assert settings.place() == Place("tcp://10.0.0.8:2376", TlsFiles("ca.pem", "c.pem", "k.pem"))
    assert settings.nats.servers == ("nats://a:1", "nats://b:2")


def test_options_come_first(tmp_path: Path) -> None:
    file = tmp_path / "docker.yml"
    file.write_text(
        "host: 10.0.0.7\ndomain: apps.test\nengine: {url: 'tcp://a:1'}\nnats: {servers: ['nats://a:1']}"
    )
    options = Options(
        nats=("nats://b:2",), engine="unix:///x", host="10.0.0.9", domain="b.test", control_socket="/run/s"
    )
    settings = load_settings(file, options)
    assert settings.nats.servers == ("nats://b:2",)
    assert settings.place() == Place("unix:///x")
    assert (settings.host, settings.domain, settings.control_socket) == ("10.0.0.9", "b.test", "/run/s")


def test_engine_named_by_an_option_is_shown_the_files_of_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "docker.yml"
    file.write_text("engine: {url: 'tcp://a:1', ca: ca.pem, certificate: c.pem, key: k.pem}")
    settings = load_settings(file, Options(engine="tcp://b:2"))
    assert settings.place() == Place("tcp://b:2", TlsFiles("ca.pem", "c.pem", "k.pem"))


def test_all_mistakes_are_told_at_once_with_their_keys() -> None:
    text = "enabled: perhaps\nnet: x\nengine: {url: 7, path: y}\nnats: []\ntags: {a: 1}\n"
    with pytest.raises(SettingsError) as caught:
        read_settings(text)
    keys = [problem.partition(":")[0] for problem in caught.value.problems]
    assert keys == ["enabled", "net", "engine.url", "engine.path", "nats", "tags"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("sync_interval: 2m", "sync_interval"),
        ("sync_interval: often", "sync_interval"),
        ("identity_ttl: 0s", "identity_ttl"),
        ("domain: '*x'", "domain"),
        ("nats: {servers: []}", "nats.servers"),
        ("nats: {servers: ['http://x']}", "nats.servers"),
        ("nats: {certificate: c.pem}", "nats"),
        ("engine: {url: 'ssh://x'}", "engine.url"),
        ("engine: {url: 'tcp://a:1', key: k.pem}", "engine"),
        ("engine: {ca: ca.pem}", "engine"),
        ("agent: my cell", "agent"),
        ("host: http://10.0.0.7", "host, availability_zone or tags"),
        ('availability_zone: "z\\n1"', "host, availability_zone or tags"),
        ("[]", "the document"),
        ("a: {", "not YAML"),
        ("\x00", "not YAML"),
        ("[" * 100_000, "not YAML"),
        ("domain: a\ndomain: b", 'mapping key "domain" already defined at line 1 (domain, line 2)'),
    ],
)
def test_value_that_cannot_be_used_is_told_with_its_key(tmp_path: Path, text: str, key: str) -> None:
    file = tmp_path / "docker.yml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(file, Options())
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [key]


def test_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff")
    for name, told in (("absent", "No such file"), ("binary", "not UTF-8"), ("", "Is a directory")):
        with pytest.raises(SettingsError, match=told):
            load_settings(tmp_path / name, Options())


def test_engine_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.8:2375")
    assert Settings().place() == Place("tcp://10.0.0.8:2375")
    monkeypatch.setenv("DOCKER_HOST", "ssh://somewhere")
    with pytest.raises(SettingsError, match="DOCKER_HOST"):
        Settings().place()


def test_example_is_good() -> None:
    example = Path(__file__).parents[2] / "docs" / "examples" / "docker.yml"
    settings = load_settings(example, Options())
    assert settings.enabled
    assert settings.place().tls is not None


def test_labels_of_the_compose_example_are_good() -> None:
    document = yaml.safe_load((Path(__file__).parents[2] / "docs" / "examples" / "compose.yml").read_text())
    wishes = {name: read_labels(service["labels"]) for name, service in document["services"].items()}
    assert [(each.problems, each.unknown) for each in wishes.values()] == [((), ())] * len(wishes)
    assert wishes["front"].uris == ("shop.example.com", "www.shop.example.com")
    assert wishes["migrate"].task
