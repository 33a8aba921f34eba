"""What each query gets, decided without a socket."""

from typing import Any

import msgspec
import pytest
from dnslib import EDNS0, QTYPE, DNSHeader, DNSQuestion, DNSRecord  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from router.config.internal import Internal
from router.control.internal.dns_answers import Answers, DnsCounters, normalised, own_addresses, packed_addresses
from router.control.internal.hub import InternalHub
from router.log import Logger
from router.routing.access import TCP
from router.routing.internal_records import (
    DropIdentity,
    Identity,
    NameEntry,
    Policy,
    PutIdentity,
    PutName,
    SetInternalState,
)
from router.wire.dns import Query
from tests.support.dns import (
    GUEST,
    STRANGER,
    WEB,
    addresses_in,
    container_ip,
    internal_config,
    put_app,
    ready_hub,
)

OURS = ("10.255.0.1", "10.254.0.1", "fd00::1")


class Subject:
    """Answers with everything they decide by at hand."""

    def __init__(self, config: Internal) -> None:
        self.hub: InternalHub = ready_hub()
        self.counters = DnsCounters()
        self.log: list[bytes] = []
        self.now = 100.0
        logger = Logger(sink=self.log.append)
        self.answers = Answers(
            config, lambda: self.hub.table, self.counters, logger, clock=lambda: self.now, shuffle=list.reverse
        )

    def find(
        self, packet: bytes, source: str = WEB, local: str = OURS[0], *, tcp: bool = False
    ) -> bytes | Query | None:
        return self.answers.find(packet, source, local, tcp=tcp)

    def ask(
        self, name: str, kind: str = "A", source: str = WEB, local: str = OURS[0], *, tcp: bool = False
    ) -> DNSRecord:
        found = self.find(DNSRecord.question(name, kind).pack(), source, local, tcp=tcp)
        assert isinstance(found, bytes)
        return DNSRecord.parse(found)

    @property
    def counted(self) -> dict[str, int]:
        """Outcomes that are not 0."""
        return {name: count for name, count in msgspec.structs.asdict(self.counters).items() if count}


def subject(**settings: Any) -> Subject:
    return Subject(internal_config(**{"addresses": OURS, **settings}))


def code(answer: DNSRecord) -> str:
    return {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}[
        answer.header.rcode
    ]


# Who asks.


def test_source_that_is_no_container_is_refused_whatever_it_asks() -> None:
    dns = subject(resolvers=["127.0.0.1"])
    for name in ("api.apps.internal", "none.apps.internal", "example.com"):
        answer = dns.ask(name, source=STRANGER)
        assert (code(answer), answer.rr, answer.header.aa) == ("REFUSED", [], 0)
    assert dns.counted == {"unregistered": 3}


def test_container_that_is_gone_is_refused_at_once() -> None:
    dns = subject()
    assert addresses_in(dns.ask("api.apps.internal"))
    dns.hub.put(DropIdentity(WEB))
    assert code(dns.ask("api.apps.internal")) == "REFUSED"


def test_address_that_belongs_to_another_app_now_has_that_apps_view() -> None:
    dns = subject()
    dns.hub.put(PutIdentity(Identity(WEB, "guest")))
    assert addresses_in(dns.ask("api.apps.internal")) == []


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("FD00:0:0::1", "fd00::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_peer_is_known_under_the_form_of_identities(peer: str, address: str) -> None:
    assert normalised(peer) == address


# What they get.


def test_endpoints_are_answered_shuffled() -> None:
    dns = subject()
    answer = dns.ask("api.apps.internal")
    assert addresses_in(answer) == [container_ip(2), container_ip(1)]
    assert (code(answer), answer.header.aa, answer.header.ra) == ("NOERROR", 1, 1)
    assert dns.counted == {"answered": 1}


def test_index_name_is_answered_with_one_instance() -> None:
    assert addresses_in(subject().ask("0.api.apps.internal")) == [container_ip(1)]


@pytest.mark.parametrize("name", ["API.Apps.INTERNAL", "api.apps.internal."])
def test_upper_case_and_trailing_dot_make_no_difference(name: str) -> None:
    assert len(addresses_in(subject().ask(name))) == 2


def test_proxy_answers_our_addresses_first_the_one_that_was_asked() -> None:
    dns = subject(answer="proxy")
    assert addresses_in(dns.ask("api.apps.internal", local=OURS[0])) == [OURS[0], OURS[1]]
    assert addresses_in(dns.ask("api.apps.internal", local=OURS[1])) == [OURS[1], OURS[0]]
    assert addresses_in(dns.ask("api.apps.internal", "AAAA", local=OURS[1])) == [OURS[2]]


def test_proxy_is_not_answered_for_a_name_without_a_live_instance() -> None:
    dns = subject(answer="proxy")
    for number in (1, 2):
        dns.hub.put(DropIdentity(container_ip(number)))
    assert addresses_in(dns.ask("api.apps.internal")) == []
    assert b'"reason":"no-instance"' in dns.log[-1]
    assert dns.counted == {"empty": 1}


def test_addresses_of_both_versions_are_answered_by_type() -> None:
    dns = subject()
    put_app(dns.hub, "api.apps.internal", "api", ["10.255.9.9", "fd00::9"])
    assert addresses_in(dns.ask("api.apps.internal", "A")) == ["10.255.9.9"]
    assert addresses_in(dns.ask("api.apps.internal", "AAAA")) == ["fd00::9"]


@pytest.mark.parametrize("kind", ["AAAA", "TXT", "SRV", "MX", "ANY", "HTTPS", "SOA", "NS"])
def test_other_types_of_a_permitted_name_are_answered_with_nothing(kind: str) -> None:
    dns = subject(unknown_answer="nxdomain")
    answer = dns.ask("api.apps.internal", kind)
    assert (code(answer), answer.rr, answer.auth, answer.header.aa) == ("NOERROR", [], [], 1)
    assert dns.counted == {"empty": 1}


@pytest.mark.parametrize(("setting", "expected"), [("nodata", "NOERROR"), ("nxdomain", "NXDOMAIN")])
@pytest.mark.parametrize("kind", ["A", "AAAA", "TXT", "ANY"])
def test_unknown_and_forbidden_answers_are_the_same_bytes(setting: str, expected: str, kind: str) -> None:
    dns = subject(unknown_answer=setting)
    packets = [DNSRecord.question(f"{name}.apps.internal", kind).pack() for name in ("secret", "nobody")]
    packets = [b"\0\0" + packet[2:] for packet in packets]
    forbidden, unknown = (dns.find(packet) for packet in packets)
    assert isinstance(forbidden, bytes)
    assert isinstance(unknown, bytes)
    assert forbidden.replace(b"secret", b"nobody") == unknown
    assert code(DNSRecord.parse(unknown)) == expected
    assert dns.counted == {"forbidden": 1, "unknown": 1}


def test_domain_itself_exists() -> None:
    assert code(subject(unknown_answer="nxdomain").ask("apps.internal", "NS")) == "NOERROR"


def test_policy_that_comes_and_goes_acts_on_the_next_query() -> None:
    dns = subject()
    assert addresses_in(dns.ask("secret.apps.internal", source=GUEST)) == []
    dns.hub.set_policies([Policy("guest", "secret", TCP, 1, 1)])
    assert addresses_in(dns.ask("secret.apps.internal", source=GUEST)) == [container_ip(3)]
    dns.hub.set_policies([])
    assert addresses_in(dns.ask("secret.apps.internal", source=GUEST)) == []


def test_open_view_answers_every_container() -> None:
    dns = subject(view="open")
    assert addresses_in(dns.ask("secret.apps.internal", source=GUEST)) == [container_ip(3)]
    assert code(dns.ask("secret.apps.internal", source=STRANGER)) == "REFUSED"


@pytest.mark.parametrize(
    ("view", "policies", "names", "expected"),
    [
        ("split", False, True, "SERVFAIL"),
        ("split", True, False, "SERVFAIL"),
        ("open", True, False, "SERVFAIL"),
        ("open", False, True, "NOERROR"),
        ("split", True, True, "NOERROR"),
    ],
)
def test_until_it_is_known_what_is_allowed_nothing_is_answered(
    view: str, policies: bool, names: bool, expected: str
) -> None:
    dns = subject(view=view)
    dns.hub.put(SetInternalState(policies, names))
    for name in ("api", "secret", "nobody"):
        assert code(dns.ask(f"{name}.apps.internal")) == expected


# Other names, and what is no such query.


def test_other_name_is_for_others_if_there_are_any() -> None:
    packet = DNSRecord.question("Example.com").pack()
    found = subject(resolvers=["127.0.0.1"]).find(packet)
    assert isinstance(found, Query)
    assert found.name == "example.com"
    dns = subject()
    assert code(dns.ask("example.com")) == "REFUSED"
    assert dns.counted == {"refused": 1}


def test_internal_names_never_leave() -> None:
    dns = subject(resolvers=["127.0.0.1"])
    for name in ("api", "secret", "nobody", "a.b.c"):
        for kind in ("A", "AAAA", "TXT", "PTR"):
            assert code(dns.ask(f"{name}.apps.internal", kind)) == "NOERROR"
    dns.hub.put(SetInternalState(False, False))
    assert code(dns.ask("api.apps.internal")) == "SERVFAIL"


@pytest.mark.parametrize("kind", ["AXFR", "IXFR"])
@pytest.mark.parametrize("name", ["apps.internal", "example.com"])
def test_zone_transfers_are_refused(kind: str, name: str) -> None:
    assert code(subject(resolvers=["127.0.0.1"]).ask(name, kind, tcp=True)) == "REFUSED"


def test_other_classes_are_refused() -> None:
    packet = DNSRecord.question("version.bind", "TXT", "CH").pack()
    found = subject(resolvers=["127.0.0.1"]).find(packet)
    assert isinstance(found, bytes)
    assert code(DNSRecord.parse(found)) == "REFUSED"


def test_unknown_edns_version_is_told_ours() -> None:
    query = DNSRecord.question("api.apps.internal")
    query.add_ar(EDNS0(version=1, udp_len=1232))
    found = subject().find(query.pack())
    assert isinstance(found, bytes)
    answer = DNSRecord.parse(found)
    assert (answer.ar[0].edns_rcode, answer.ar[0].edns_ver, answer.rr) == (1, 0, [])


def test_many_instances_are_cut_over_udp_and_whole_over_tcp() -> None:
    dns = subject()
    cut = dns.ask("many.apps.internal")
    assert (cut.header.tc, len(cut.rr) < 32) == (1, True)
    whole = dns.ask("many.apps.internal", tcp=True)
    assert (whole.header.tc, len(whole.rr)) == (0, 200)


# Limits, counters, the audit log.


def test_queries_beyond_the_rate_get_nothing_and_cost_others_nothing() -> None:
    dns = subject(queries_per_second=5)
    packet = DNSRecord.question("api.apps.internal").pack()
    assert [dns.find(packet) is not None for _ in range(7)] == [True] * 5 + [False] * 2
    assert dns.find(packet, GUEST) is not None
    assert dns.counted == {"answered": 5, "rate_limited": 2, "forbidden": 1}
    dns.now += 0.2
    assert dns.find(packet) is not None


def test_strangers_share_one_allowance() -> None:
    dns = subject(queries_per_second=5)
    packet = DNSRecord.question("api.apps.internal").pack()
    answered = [dns.find(packet, f"127.9.0.{number}") is not None for number in range(20)]
    assert sum(answered) == 5
    assert dns.find(packet) is not None


def test_denials_are_logged_with_source_name_and_reason_but_not_without_end() -> None:
    dns = subject()
    dns.ask("secret.apps.internal", source=GUEST)
    dns.ask("none.apps.internal", source=GUEST)
    assert b'"app":"guest","name":"secret.apps.internal","reason":"forbidden"' in dns.log[0]
    assert b'"app":"guest","name":"none.apps.internal","reason":"unknown"' in dns.log[1]
    for _ in range(500):
        dns.ask("secret.apps.internal", source=GUEST)
    assert len(dns.log) == 20
    dns.now += 1.0
    dns.ask("secret.apps.internal", source=GUEST)
    assert b'"suppressed":482' in dns.log[-1]


def test_refusals_of_strangers_are_logged_apart_from_denials() -> None:
    dns = subject()
    for _ in range(100):
        dns.ask("x.apps.internal", source=STRANGER)
    dns.ask("secret.apps.internal", source=GUEST)
    assert b'"ip":"127.0.1.3"' in dns.log[0]
    assert b"dns-name-denied" in dns.log[-1]


def numbered_question(name: str, kind: str) -> bytes:
    record = DNSRecord(DNSHeader(id=7), q=DNSQuestion(name, getattr(QTYPE, kind)))
    return bytes(record.pack())


packets = st.one_of(
    st.binary(max_size=80),
    st.builds(
        numbered_question,
        st.sampled_from(["api.apps.internal", "secret.apps.internal", "none.apps.internal", "example.com"]),
        st.sampled_from(["A", "AAAA", "TXT", "AXFR"]),
    ),
)


@given(st.lists(st.tuples(packets, st.sampled_from([WEB, GUEST, STRANGER])), max_size=20))
def test_every_packet_is_counted_once_and_strangers_get_no_more_bytes_than_they_send(
    sent: list[tuple[bytes, str]],
) -> None:
    dns = subject(queries_per_second=10)
    for packet, source in sent:
        found = dns.find(packet, source)
        if source == STRANGER:
            assert not isinstance(found, Query)
            assert len(found or b"") <= len(packet)
        assert found is None or isinstance(found, Query) or len(found) <= 512
    assert sum(dns.counted.values()) == len(sent)


# Addresses.


def test_own_addresses_are_in_normal_form_and_once() -> None:
    config = internal_config(addresses=["fd00:0::1", "10.0.0.1", "10.0.0.1"])
    assert own_addresses(config) == ["fd00::1", "10.0.0.1"]
    assert own_addresses(config, first="10.0.0.1") == ["10.0.0.1", "fd00::1"]


def test_addresses_are_packed_by_version() -> None:
    texts = ["10.0.0.1", "fd00::1"]
    assert packed_addresses(texts, 4) == [b"\x0a\0\0\1"]
    assert packed_addresses(texts, 6) == [b"\xfd\0" + bytes(13) + b"\1"]


def test_name_whose_instance_is_of_another_app_is_not_answered() -> None:
    dns = subject()
    dns.hub.put(PutName("api.apps.internal", [NameEntry(container_ip(3), "api")]))
    assert addresses_in(dns.ask("api.apps.internal")) == []
