import dataclasses

import pytest

from router.proxy.sticky import Sticky, StickyOptions

OPTIONS = StickyOptions(frozenset({b"JSESSIONID", b"other"}), False, False)
NOW_S = 1_800_000_000.75
DATE = b"Wed, 21 Oct 2026 07:28:00 GMT"
DATE_S = 1792567680


def sticky(*, secure: bool = False, negotiate: bool = False) -> Sticky:
    return Sticky(dataclasses.replace(OPTIONS, secure=secure, negotiate=negotiate))


def answered(
    rules: Sticky,
    *lines: bytes,
    cookies: bytes = b"",
    challenge: bytes = b"",
    wanted: bytes = b"",
    used: bytes = b"i1",
    path: str = "",
) -> list[bytes]:
    return rules.set_cookies(list(lines), cookies, challenge, wanted, used, path, NOW_S)


# Requests.


@pytest.mark.parametrize(
    ("cookies", "wanted"),
    [
        (b"", b""),
        (b"JSESSIONID=a", b""),
        (b"__VCAP_ID__=i1", b""),
        (b"JSESSIONID=a; __VCAP_ID__=i1", b"i1"),
        (b"__VCAP_ID__=i1;other=", b"i1"),
        (b"__Host-JSESSIONID=a; __VCAP_ID__=i1", b"i1"),
        (b"jsessionid=a; __VCAP_ID__=i1", b""),
        (b"__Host-else=a; __VCAP_ID__=i1", b""),
        (b"JSESSIONID=a; __VCAP_ID__=i1; __VCAP_ID__=i2", b"i1"),
        (b"JSESSIONID=a; __VCAP_ID__=\xff; __VCAP_ID__=i2", b"i2"),
        (b"JSESSIONID=a; __VCAP_ID__=; __VCAP_ID__=i2", b""),
        (b"JSESSIONID=a; x__VCAP_ID__=i1", b""),
        (b"JSESSIONID=__VCAP_ID__; __VCAP_ID_META__=secure", b""),
        (b"JSESSIONID=a; __VCAP_ID__=10.0.0.1:8080", b"10.0.0.1:8080"),
        (b'JSESSIONID=a; __VCAP_ID__="i 1"', b"i 1"),
    ],
)
def test_instance_is_wanted_by_session_and_instance_cookie_together(cookies: bytes, wanted: bytes) -> None:
    assert sticky().wanted(cookies, b"") == (wanted, False)


@pytest.mark.parametrize("authorization", [b"Negotiate abc", b"NEGOTIATE", b"negotiatexyz"])
def test_negotiating_request_must_have_its_instance(authorization: bytes) -> None:
    rules = sticky(negotiate=True)
    assert rules.wanted(b"__VCAP_ID__=i1", authorization) == (b"i1", True)
    assert rules.wanted(b"JSESSIONID=a; __VCAP_ID__=i1", authorization) == (b"i1", True)
    assert rules.wanted(b"JSESSIONID=a", authorization) == (b"", False)
    assert rules.wanted(b"__VCAP_ID__=", authorization) == (b"", False)


def test_negotiating_means_nothing_unless_configured_and_asked_for() -> None:
    assert sticky().wanted(b"__VCAP_ID__=i1", b"Negotiate abc") == (b"", False)
    assert sticky(negotiate=True).wanted(b"__VCAP_ID__=i1", b"Basic abc") == (b"", False)


# Responses: new sessions.


def test_response_without_session_cookie_gets_nothing() -> None:
    assert answered(sticky(), b"Set-Cookie: else=a", b"Content-Type: text/plain", b"", b"X: set-cookie:") == []


def test_new_session_gets_a_cookie_and_its_companion() -> None:
    assert answered(sticky(), b"Set-Cookie: JSESSIONID=a") == [
        b"Set-Cookie: __VCAP_ID__=i1; Path=/; HttpOnly",
        b"Set-Cookie: __VCAP_ID_META__=; Path=/; HttpOnly",
    ]


def test_new_session_copies_the_apps_attributes() -> None:
    app = b"set-cookie:JSESSIONID=a; path=/app; Max-Age=60; Secure; SameSite=none; Partitioned; Expires=" + DATE
    attributes = b"Path=/Ctx; Expires=" + DATE + b"; Max-Age=60; HttpOnly; Secure; SameSite=None; Partitioned"
    assert answered(sticky(), app, path="/Ctx") == [
        b"Set-Cookie: __VCAP_ID__=i1; " + attributes,
        b"Set-Cookie: __VCAP_ID_META__=secure&partitioned&expires=%d&maxage=1800000060&samesite=none; %b"
        % (DATE_S, attributes),
    ]


@pytest.mark.parametrize("age", [b"0", b"-1"])
def test_deleted_session_deletes_both_cookies(age: bytes) -> None:
    assert answered(sticky(), b"Set-Cookie: JSESSIONID=; Max-Age=" + age) == [
        b"Set-Cookie: __VCAP_ID__=i1; Path=/; Max-Age=0; HttpOnly",
        b"Set-Cookie: __VCAP_ID_META__=maxage=-1; Path=/; Max-Age=0; HttpOnly",
    ]


def test_session_cookie_is_known_with_the_host_prefix_too() -> None:
    assert len(answered(sticky(), b"Set-Cookie: __Host-JSESSIONID=a; Secure")) == 2
    assert answered(sticky(), b"Set-Cookie: __Secure-JSESSIONID=a") == []


def test_each_of_several_session_cookies_gets_a_pair() -> None:
    added = answered(
        sticky(),
        b"Set-Cookie: JSESSIONID=; Max-Age=0; Secure",
        b"Set-Cookie: else=x",
        b"Set-Cookie: JSESSIONID=a; Secure; Partitioned",
    )
    assert added == [
        b"Set-Cookie: __VCAP_ID__=i1; Path=/; Max-Age=0; HttpOnly; Secure",
        b"Set-Cookie: __VCAP_ID_META__=secure&maxage=-1; Path=/; Max-Age=0; HttpOnly; Secure",
        b"Set-Cookie: __VCAP_ID__=i1; Path=/; HttpOnly; Secure; Partitioned",
        b"Set-Cookie: __VCAP_ID_META__=secure&partitioned; Path=/; HttpOnly; Secure; Partitioned",
    ]


def test_session_is_renewed_although_the_client_has_the_cookie() -> None:
    assert len(answered(sticky(), b"Set-Cookie: JSESSIONID=b", wanted=b"i1")) == 2


def test_configured_secure_holds_for_every_cookie() -> None:
    rules = sticky(secure=True, negotiate=True)
    cases = [
        answered(rules, b"Set-Cookie: JSESSIONID=a"),
        answered(rules, wanted=b"gone"),
        answered(rules, challenge=b"Negotiate"),
    ]
    assert all(b"; HttpOnly; Secure" in line for lines in cases for line in lines)
    assert [len(lines) for lines in cases] == [2, 1, 1]


def test_app_that_sets_the_cookie_itself_is_left_alone() -> None:
    own = b"Set-Cookie: __VCAP_ID__=mine"
    rules = sticky(negotiate=True)
    assert answered(rules, own, b"Set-Cookie: JSESSIONID=a", wanted=b"gone", challenge=b"Negotiate") == []
    assert answered(rules, b"Set-Cookie: JSESSIONID=a", own) == []


def test_endpoint_without_instance_id_sets_nothing() -> None:
    assert answered(sticky(), b"Set-Cookie: JSESSIONID=a", used=b"", wanted=b"gone") == []


def test_lines_of_the_response_are_not_changed() -> None:
    lines = [b"Set-Cookie: JSESSIONID=a"]
    sticky().set_cookies(lines, b"", b"", b"", b"i1", "", NOW_S)
    assert lines == [b"Set-Cookie: JSESSIONID=a"]


# Responses: stale sessions.


def test_stale_session_gets_the_new_instance() -> None:
    assert answered(sticky(), wanted=b"gone") == [b"Set-Cookie: __VCAP_ID__=i1; Path=/; HttpOnly"]
    assert answered(sticky(), wanted=b"10.0.0.1:80") == [b"Set-Cookie: __VCAP_ID__=i1; Path=/; HttpOnly"]
    assert answered(sticky(), wanted=b"i1") == []


def test_stale_session_remembers_its_attributes_by_the_companion() -> None:
    meta = b"secure&partitioned&expires=%d&maxage=1800000060&samesite=lax" % DATE_S
    assert answered(sticky(), wanted=b"gone", cookies=b"__VCAP_ID_META__=" + meta) == [
        b"Set-Cookie: __VCAP_ID__=i1; Path=/; Expires=%b; Max-Age=60; HttpOnly; Secure; SameSite=Lax; Partitioned"
        % DATE
    ]


@pytest.mark.parametrize("ends", [b"-1", b"1800000000", b"1"])
def test_session_whose_time_is_over_is_deleted(ends: bytes) -> None:
    line = b"Set-Cookie: __VCAP_ID__=i1; Path=/; Max-Age=0; HttpOnly"
    assert answered(sticky(), wanted=b"gone", cookies=b"a=b; __VCAP_ID_META__=maxage=" + ends) == [line]


@pytest.mark.parametrize(
    "meta",
    [
        b"",
        b"&&&",
        b"maxage=soon&expires=1e9&samesite=odd",
        b"maxage=" + b"9" * 5000,
        b"expires=999999999999",
        b"x=y",
    ],
)
def test_companion_nobody_can_read_restores_nothing(meta: bytes) -> None:
    plain = [b"Set-Cookie: __VCAP_ID__=i1; Path=/; HttpOnly"]
    assert answered(sticky(), wanted=b"gone", cookies=b"__VCAP_ID_META__=" + meta) == plain


def test_new_session_goes_before_a_stale_one() -> None:
    added = answered(sticky(), b"Set-Cookie: other=a; Max-Age=5", wanted=b"gone")
    assert added[0] == b"Set-Cookie: __VCAP_ID__=i1; Path=/; Max-Age=5; HttpOnly"


# Responses: negotiation.


@pytest.mark.parametrize("challenge", [b"Negotiate", b"negotiate abc", b'Basic realm="x", NEGOTIATE'])
def test_challenge_to_negotiate_makes_a_short_session(challenge: bytes) -> None:
    line = b"Set-Cookie: __VCAP_ID__=i1; Path=/p; Max-Age=60; HttpOnly; SameSite=Strict"
    rules = sticky(negotiate=True)
    assert answered(rules, challenge=challenge, path="/p") == [line]
    assert answered(rules, b"Set-Cookie: JSESSIONID=a", challenge=challenge, path="/p") == [line]
    assert answered(rules, challenge=challenge, wanted=b"i1") == []
    assert answered(sticky(), challenge=challenge) == []


def test_other_challenges_do_not() -> None:
    assert answered(sticky(negotiate=True), challenge=b'Basic realm="Negotiate"') == []


# Hostile values.


def test_instance_id_and_path_cannot_bring_attributes() -> None:
    added = answered(sticky(), wanted=b"gone", used=b"i;Domain=x", path="/a; Domain=x")
    assert added == [b"Set-Cookie: __VCAP_ID__=iDomain=x; Path=/a Domain=x; HttpOnly"]
