"""`router docker` as a process, beside a real engine, a real nats-server and a real router."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.docker.conftest import INSIDE, Place, RunningWatcher
from tests.support.announce import Announcer
from tests.support.docker import Docker
from tests.support.engine import IMAGE, WEB
from tests.support.podman import Podman
from tests.support.ports import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

Watch = Callable[..., RunningWatcher]
URIS = {"router.uris": "app.test"}
HEALTH = {"Test": ["CMD", "/bin/test", "-e", "/tmp/ok"], "Interval": 10**9, "Retries": 1}


def answers(place: Place, container: str, host: str = "app.test") -> None:
    wait_until(lambda: place.body(host) == container[:12], f"{container[:12]} answers as {host}", timeout_s=60)


def is_gone(place: Place, host: str = "app.test") -> None:
    wait_until(lambda: host not in place.routes(), f"the router has no route {host}", timeout_s=60)
    wait_until(lambda: place.status(host) == 404, f"{host} is not found")


# Starting.


def test_started_container_answers_through_its_lowest_exposed_tcp_port(place: Place, watch: Watch) -> None:
    watch()
    container = place.engine.launch(URIS)
    answers(place, container)
    host_port = place.engine.inspect(container)["NetworkSettings"]["Ports"]["8079/tcp"][0]["HostPort"]
    (endpoint,) = place.routes()["app.test"]
    assert endpoint["address"] == f"127.0.0.1:{host_port}"


def test_running_containers_are_adopted_at_the_start(place: Place, watch: Watch) -> None:
    container = place.engine.launch(URIS)
    watch()
    answers(place, container)


def test_label_chooses_another_port(place: Place, watch: Watch) -> None:
    watch()
    place.engine.launch({**URIS, "router.port": "8081"})
    wait_until(lambda: place.body("app.test", "/") == "other", "the other port answers")


def test_context_paths_lead_to_different_containers(place: Place, watch: Watch) -> None:
    watch()
    first = place.engine.launch({"router.uris": "app.test"})
    second = place.engine.launch({"router.uris": "app.test/cgi-bin"})
    answers(place, second)
    wait_until(lambda: place.body("app.test", "/") == "web", "the rest goes to the other one")
    place.engine.remove(second)
    answers(place, first)


def test_domain_names_containers_that_have_no_label(place: Place, watch: Watch) -> None:
    watch(domain="apps.test")
    answers(place, place.engine.launch(name="web"), "web.apps.test")


def test_fifty_containers_at_once_all_answer_and_all_go(place: Place, watch: Watch) -> None:
    watcher = watch()
    # Ports that podman chose itself would collide now and then.
    made = [
        place.engine.create(
            {"router.uris": f"app-{number}.test"},
            publish=False,
            HostConfig={"PortBindings": {"8079/tcp": [{"HostPort": str(free_port())}]}},
        )
        for number in range(50)
    ]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda each: place.engine.api("POST", f"/containers/{each}/start"), made))
    for number, container in enumerate(made):
        answers(place, container, f"app-{number}.test")
    watcher.wait_for("route-announced", 50)
    place.engine.clear()
    wait_until(lambda: not [host for host in place.routes() if host.startswith("app-")], "all are gone")
    wait_until(lambda: place.identities() == {}, "all identities are gone")


def test_instances_are_numbered_as_they_were_scaled(place: Place, watch: Watch) -> None:
    compose = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web", **URIS}
    early = [place.engine.launch({**compose, "com.docker.compose.container-number": str(each)}) for each in (1, 2)]
    watcher = watch()
    made = [*early, place.engine.launch({**compose, "com.docker.compose.container-number": "3"})]
    for index, container in enumerate(made):
        watcher.wait_for("route-announced", id=container[:12], index=str(index))
    wait_until(lambda: len(place.routes()["app.test"]) == 3, "three endpoints")
    instances = place.routes()["app.test"]
    assert {each["private_instance_id"].replace("-", "") for each in instances} == {each[:32] for each in made}
    assert {each["app"] for each in place.identities().values()} == {"shop-web"}


# Ending.


@pytest.mark.parametrize("how", ["kill", "stop", "remove"])
def test_route_and_identity_end_with_the_container(place: Place, watch: Watch, how: str) -> None:
    watch()
    container = place.engine.launch(URIS)
    answers(place, container)
    engine = place.engine
    ends: dict[str, Callable[[str], None]] = {
        "kill": engine.kill,
        "stop": engine.stop_container,
        "remove": engine.remove,
    }
    ends[how](container)
    is_gone(place)
    wait_until(lambda: place.identities() == {}, "the identity is gone")


def test_restarted_container_answers_again_as_a_new_generation(place: Place, watch: Watch) -> None:
    watcher = watch()
    container = place.engine.launch({**URIS, "router.app": "guid"})
    answers(place, container)
    wait_until(place.identities, "the identity")
    before = place.identities()
    (generation,) = [each["generation"] for each in before.values()]
    # Somebody takes the old address meanwhile.
    place.engine.stop_container(container)
    is_gone(place)
    other = place.engine.launch()
    place.engine.run("start", container)
    answers(place, container)
    watcher.wait_for("route-announced", 2, id=container[:12])
    address, taken = place.engine.address(container), place.engine.address(other)
    wait_until(lambda: len(place.identities()) == 2, "both identities")
    found = place.identities()
    assert found[address]["app"] == "guid"
    assert found[address]["generation"] > generation
    assert found[taken]["instance"].replace("-", "") == other[:32]


def test_container_that_fails_again_and_again_is_routed_while_it_runs(place: Place, watch: Watch) -> None:
    watcher = watch()
    host = {"RestartPolicy": {"Name": "always"}, "PublishAllPorts": True}
    container = place.engine.launch(URIS, Cmd=["/bin/sh", "-c", "sleep 1; exit 1"], HostConfig=host)
    watcher.wait_for("route-announced", 3, id=container[:12])
    watcher.wait_for("route-withdrawn", 2, id=container[:12])
    # In between it publishes nothing, which is nobody's mistake.
    assert watcher.lines("container-publishes-nothing") == []


def test_paused_container_keeps_its_identity_alone(place: Place, watch: Watch) -> None:
    watcher = watch()
    container = place.engine.launch(URIS)
    answers(place, container)
    place.engine.run("pause", container)
    is_gone(place)
    watcher.wait_for("container-does-not-serve")
    assert len(place.identities()) == 1
    place.engine.run("unpause", container)
    answers(place, container)


def test_container_with_a_health_check_is_routed_while_it_is_healthy(place: Place, watch: Watch) -> None:
    watcher = watch()
    container = place.engine.launch(URIS, Healthcheck=HEALTH)
    watcher.wait_for("container-does-not-serve", id=container[:12])
    wait_until(place.identities, "the identity")
    assert "app.test" not in place.routes()
    place.engine.run("exec", container, "touch", "/tmp/ok")
    place.engine.check_health(container)
    answers(place, container)
    place.engine.run("exec", container, "rm", "/tmp/ok")
    place.engine.check_health(container)
    is_gone(place)


# Containers without routes.


def test_containers_that_cannot_be_routed_are_told_and_disturb_nobody(place: Place, watch: Watch) -> None:
    watcher = watch()
    engine = place.engine
    engine.make_image("localhost/udp:1", WEB, ["53/udp"])
    engine.make_image("localhost/port:1", WEB, ["8079"], environment={"PORT": "1"})
    engine.make_image(
        "localhost/labelled:1", WEB, ["8079"], labels={"router.uris": "bank.test", "router.app": "b"}
    )
    expected = {
        engine.launch(URIS, publish=False): "container-publishes-nothing",
        engine.launch(URIS, HostConfig={"NetworkMode": "host"}, publish=False): "container-on-host-network",
        engine.launch(URIS, image="localhost/udp:1"): "container-udp-only",
        engine.launch({**URIS, "router.port": "70000"}): "container-labels-malformed",
        engine.launch({"router.uris": "https://app.test"}): "container-labels-malformed",
        engine.launch({"router.uri": "app.test"}): "container-labels-unknown",
        engine.launch({**URIS, "router.port": "9"}): "container-port-not-published",
        engine.launch(image="localhost/labelled:1"): "container-labels-of-image",
    }
    warned = engine.launch({"router.uris": "port.test"}, image="localhost/port:1")
    for container, code in expected.items():
        watcher.wait_for(code, id=container[:12])
    watcher.wait_for("container-port-differs", id=warned[:12])
    answers(place, warned, "port.test")
    assert set(place.routes()) == {"port.test"}
    # All but the one without a network of its own.
    wait_until(lambda: len(place.identities()) == len(expected), "the identities")


def test_task_has_an_identity_and_no_route(place: Place, watch: Watch) -> None:
    watcher = watch(domain="apps.test")
    place.engine.make_image("localhost/task:1", ["/bin/sleep", "600"])
    tasks = [
        place.engine.launch({"router.app": "one"}, image="localhost/task:1"),
        place.engine.launch({**URIS, "router.app": "two", "router.task": "true"}),
    ]
    web = place.engine.launch(name="web")
    answers(place, web, "web.apps.test")
    wait_until(lambda: len(place.identities()) == 3, "the identities")
    assert {each["app"] for each in place.identities().values()} == {"one", "two", "web"}
    assert not [line for task in tasks for line in watcher.lines("route-announced", id=task[:12])]


def test_containers_of_a_pod_are_routed_and_have_the_pods_identity(
    podman: Podman, place: Place, watch: Watch
) -> None:
    watcher = watch()
    podman.make_image("localhost/pause:1", ["/bin/sleep", "600"])
    pod = ["--publish", "8079", "--infra-image", "localhost/pause:1", "--label", "router.app=shop"]
    podman.run("pod", "create", "--name", "pod", *pod)
    try:
        labels = ["--label", "router.uris=app.test", "--label", "router.app=web"]
        web = podman.run("run", "--detach", "--pod", "pod", *labels, IMAGE)
        wait_until(lambda: place.body("app.test", "/") == "web", "the pod answers")
        watcher.wait_for("container-shares-network", id=web[:12])
        podman.run("kill", web)
        is_gone(place)
        assert [each["app"] for each in place.identities().values()] == ["shop"]
    finally:
        podman.run("pod", "rm", "--force", "--time", "0", "pod")
    wait_until(lambda: place.identities() == {}, "no identity")


# Inside.


def test_address_changes_with_the_networks_a_container_is_connected_to(place: Place, watch: Watch) -> None:
    watcher = watch()
    place.engine.run("network", "create", "--subnet", "10.89.7.0/24", "second")
    try:
        container = place.engine.launch({"router.internal": "back.apps.internal"}, publish=False)
        first = watcher.wait_for("route-announced", id=container[:12])["address"]
        place.engine.run("network", "connect", "second", container)
        wait_until(lambda: len(place.identities()) == 2, "both addresses")
        place.engine.run("network", "disconnect", place.engine.network, container)
        second = watcher.wait_for("route-announced", 2, id=container[:12])["address"]
        wait_until(lambda: list(place.identities()) == [second], "the second address alone")
        assert first != second
    finally:
        place.engine.clear()
        place.engine.run("network", "rm", "second")


def test_labelled_name_leads_from_container_to_container_and_not_from_outside(place: Place, watch: Watch) -> None:
    watcher = watch()
    back = place.engine.launch({"router.internal": "back.apps.internal", "router.app": "back"}, publish=False)
    front = place.engine.launch({"router.app": "front"}, publish=False)
    other = place.engine.launch({"router.app": "other"}, publish=False)
    watcher.wait_for("route-announced", id=back[:12])
    wait_until(lambda: place.names() == {"back.apps.internal", "0.back.apps.internal"}, "the names")
    wait_until(lambda: len(place.identities()) == 3, "the identities")

    def asks(container: str) -> str:
        url = f"http://{INSIDE}/cgi-bin/name"
        with contextlib.suppress(AssertionError):
            return place.engine.run("exec", container, "wget", "-qO-", "--header", "Host: back.apps.internal", url)
        return ""

    wait_until(lambda: asks(front) == back[:12], "front reaches back")
    assert asks(other) == ""
    assert place.status("back.apps.internal") == 404
    assert place.routes() == {}
    place.engine.kill(back)
    wait_until(lambda: place.names() == set(), "the names are gone")


# The engine.


def test_what_happened_while_the_engine_was_away_is_found(podman: Podman, place: Place, watch: Watch) -> None:
    watcher = watch()
    dies, stays = podman.launch(URIS), podman.launch({"router.uris": "stays.test"})
    answers(place, dies)
    podman.stop()
    watcher.wait_for("engine-lost")
    podman.kill(dies)
    new = podman.run("run", "--detach", "--publish", "8079", "--label", "router.uris=new.test", IMAGE)
    assert "app.test" in place.routes()
    podman.start()
    answers(place, new, "new.test")
    is_gone(place)
    answers(place, stays, "stays.test")
    # Who is quick is answered before the line has come through the pipe.
    watcher.wait_for("route-announced", id=stays[:12])
    assert len(watcher.lines("route-announced", id=stays[:12])) == 1


def test_what_ended_while_the_daemon_was_away_is_found(docker: Docker, place: Place, watch: Watch) -> None:
    watcher = watch()
    dies, stays = docker.launch(URIS), docker.launch({"router.uris": "stays.test"})
    answers(place, dies)
    answers(place, stays, "stays.test")
    process = docker.inspect(dies)["State"]["Pid"]
    docker.stop()
    watcher.wait_for("engine-lost")
    os.kill(process, signal.SIGKILL)
    assert "app.test" in place.routes()
    docker.start()
    is_gone(place)
    answers(place, stays, "stays.test")
    assert len(watcher.lines("route-announced", id=stays[:12])) == 1


def test_identities_end_when_the_engine_is_away_for_long_and_routes_stay(place: Place, watch: Watch) -> None:
    watcher = watch(identity_ttl="10s")
    container = place.engine.launch(URIS)
    answers(place, container)
    wait_until(place.identities, "the identity")
    place.engine.stop()
    watcher.wait_for("identities-dropped")
    wait_until(lambda: place.identities() == {}, "no identity is left")
    answers(place, container)
    place.engine.start()
    wait_until(place.identities, "the identity is back")
    assert len(watcher.lines("route-announced")) == 1


def test_watcher_waits_for_an_engine_that_is_not_there_yet(place: Place, watch: Watch) -> None:
    container = place.engine.launch(URIS)
    place.engine.stop()
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(watch)
        wait_until(lambda: starting.running(), "it starts")
        place.engine.start()
        starting.result(90)
    answers(place, container)


# The switch.


def test_command_withdraws_and_restores_all_routes_and_leaves_identities(place: Place, watch: Watch) -> None:
    watcher = watch()
    container = place.engine.launch({**URIS, "router.internal": "back.apps.internal"})
    answers(place, container)
    done = watcher.command("disable")
    said = done.stdout.splitlines()
    assert (done.returncode, said[0], said[4]) == (0, "enabled: false", "routes: 0")
    is_gone(place)
    wait_until(lambda: place.names() == set(), "the names are gone")
    assert len(place.identities()) == 1
    late = place.engine.launch({"router.uris": "late.test"})
    wait_until(lambda: len(place.identities()) == 2, "the late one is seen")
    assert place.routes() == {}
    assert watcher.command("enable").returncode == 0
    answers(place, container)
    answers(place, late, "late.test")
    assert watcher.command("status").stdout.splitlines() == [
        "enabled: true",
        "engine: true",
        "nats: true",
        "containers: 2",
        "routes: 3",
        "identities: 2",
    ]


def test_reload_switches_routes_and_a_mistake_in_it_changes_nothing(place: Place, watch: Watch) -> None:
    watcher = watch()
    container = place.engine.launch(URIS)
    answers(place, container)
    watcher.write(enabled="perhaps", sync_interval="1h")
    watcher.reload()
    assert len(watcher.wait_for("reload-refused")["problems"]) == 1
    assert place.body("app.test") == container[:12]
    watcher.write(enabled=False, sync_interval="5s", agent="other")
    watcher.reload()
    assert watcher.wait_for("needs-restart")["keys"] == ["agent"]
    is_gone(place)
    watcher.write(enabled=True, domain="apps.test", tags={"cell": "7"})
    watcher.reload()
    answers(place, container)
    wait_until(lambda: place.routes()["app.test"][0]["tags"] == {"cell": "7"}, "the tag")


def test_watcher_that_is_stopped_withdraws_routes_and_leaves_identities(place: Place, watch: Watch) -> None:
    watcher = watch()
    answers(place, place.engine.launch(URIS))
    assert watcher.stop() == 0
    is_gone(place)
    assert len(place.identities()) == 1
    assert not Path(watcher.socket).exists()


def test_watcher_that_is_to_leave_its_routes_makes_no_gap_when_it_is_started_again(
    place: Place, watch: Watch
) -> None:
    watcher = watch(withdraw_at_end=False)
    container = place.engine.launch({**URIS, "router.internal": "back.apps.internal"})
    answers(place, container)
    wait_until(lambda: "back.apps.internal" in place.names(), "the name")
    with Announcer(place.nats.port) as listener:
        for family in ("router", "service-discovery"):
            listener.listen(f"{family}.unregister")
        assert watcher.stop() == 0
        assert watcher.wait_for("stopped") == {"routes_left": 2}
        assert place.body("app.test") == container[:12]
        watcher.write(withdraw_at_end=True)
        watcher.start()
        watcher.wait_for("route-announced", 4)
        assert place.body("app.test") == container[:12]
        assert listener.seen == []
    assert watcher.stop() == 0
    is_gone(place)


def test_successor_of_a_watcher_that_died_takes_back_what_ended_meanwhile(place: Place, watch: Watch) -> None:
    watcher = watch()
    stays, dies = place.engine.launch({**URIS, "router.app": "stays"}), place.engine.launch({"router.app": "dies"})
    wait_until(lambda: len(place.identities()) == 2, "the identities")
    watcher.kill()
    place.engine.kill(dies)
    watch()
    wait_until(lambda: [each["app"] for each in place.identities().values()] == ["stays"], "one is left")
    answers(place, stays)


def test_nats_that_was_away_is_told_everything(place: Place, watch: Watch) -> None:
    watcher = watch()
    first, second = place.engine.launch(URIS), place.engine.launch({"router.uris": "second.test"})
    answers(place, first)
    answers(place, second, "second.test")
    place.nats.kill()
    watcher.wait_for("nats-lost")
    place.engine.kill(second)
    third = place.engine.launch({"router.uris": "third.test"})
    place.nats.start()
    answers(place, third, "third.test")
    addresses = {place.engine.address(each) for each in (first, third)}
    wait_until(lambda: set(place.identities()) == addresses, "the identities are those of now")


# The command line.


def test_second_watcher_with_the_same_socket_is_refused(watch: Watch) -> None:
    watcher = watch()
    again = subprocess.run(
        [sys.executable, "-m", "router", "docker", "-c", str(watcher.file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert again.returncode == 1
    assert "another `router docker`" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--engine", "ssh://host"], "engine.url: 'ssh://host'"),
        (["--nats", "http://x"], "nats.servers"),
        (["status"], "no `router docker` answers at"),
        ([], "no engine"),
    ],
)
def test_command_line_that_cannot_be_used_is_told(tmp_path: Path, arguments: list[str], told: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}
    socket = ["--control-socket", str(tmp_path / "s")]
    if not arguments and any(Path(path).is_socket() for path in ("/run/docker.sock", "/run/podman/podman.sock")):
        pytest.skip("skipped: this machine has an engine")
    done = subprocess.run(
        [sys.executable, "-m", "router", "docker", *socket, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert told in done.stderr
    assert json.dumps(done.stdout) == '""'
