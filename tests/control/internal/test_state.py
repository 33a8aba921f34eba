import json

from router.config.internal import Internal
from router.control.internal.hub import InternalHub
from router.control.internal.state import CHUNK, internal_state, state_document
from router.routing.internal_records import Identity, NameEntry, PutIdentity, PutName
from tests.support.bucket import policy


def document(hub: InternalHub, config: Internal) -> dict[str, object]:
    found: dict[str, object] = json.loads(b"".join(state_document(internal_state(config, hub, {"more": 1}))))
    return found


def test_nothing_at_all_is_a_document_too() -> None:
    assert document(InternalHub(lambda: None), Internal()) == {
        "status": {"more": 1},
        "policies_ready": False,
        "names_warm": False,
        "container_networks": [],
        "addresses": [],
        "identities": [],
        "policies": [],
        "names": {},
    }


def test_everything_decided_by_is_in_it() -> None:
    hub = InternalHub(lambda: None)
    hub.put(PutIdentity(Identity("10.255.1.2", "a", "space", "org", "instance", "0", 7, (80, 5000))))
    hub.put(PutName("b.apps.internal", [NameEntry("10.255.1.3", "b", "1", 8080)]))
    hub.set_policies([policy("a", "b", 1, 9, "udp")])
    hub.set_ready(policies=True, names=True)
    config = Internal(container_networks=["10.255.0.0/16"], addresses=["10.255.0.1"])
    assert document(hub, config) == {
        "status": {"more": 1},
        "policies_ready": True,
        "names_warm": True,
        "container_networks": ["10.255.0.0/16"],
        "addresses": ["10.255.0.1"],
        "identities": [
            {
                "ip": "10.255.1.2",
                "app": "a",
                "space": "space",
                "organization": "org",
                "instance": "instance",
                "index": "0",
                "generation": 7,
                "ports": [80, 5000],
            }
        ],
        "policies": [{"source": "a", "destination": "b", "protocol": "udp", "start": 1, "end": 9}],
        "names": {"b.apps.internal": [{"ip": "10.255.1.3", "app": "b", "index": "1", "port": 8080}]},
    }


def test_a_large_document_comes_in_pieces_and_is_of_one_moment() -> None:
    hub = InternalHub(lambda: None)
    count = 2 * CHUNK + 1
    hub.set_policies([policy("a", "b", port) for port in range(1, count + 1)])
    for number in range(count):
        hub.put(PutName(f"{number}.apps.internal", [NameEntry("10.255.1.3", "b")]))
    pieces = state_document(internal_state(Internal(), hub, {}))
    text = next(pieces)
    hub.set_policies([])
    hub.put(PutName("late.apps.internal", [NameEntry("10.255.1.3", "b")]))
    found = json.loads(text + b"".join(pieces))
    assert (len(found["policies"]), len(found["names"])) == (count, count)
