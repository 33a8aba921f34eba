import ssl

from router.config.ciphers import OPENSSL_BY_IANA, OPENSSL_NAMES, TLS13_SUITES, resolve


def test_iana_names_become_openssl_names_once_each() -> None:
    names = ["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384", "AES128-SHA", "AES128-SHA"]
    suites = resolve(names)
    assert suites.usable == ["ECDHE-RSA-AES256-GCM-SHA384", "AES128-SHA"]
    assert (suites.unknown, suites.unavailable) == ([], [])


def test_best_suite_comes_first_wherever_it_stands_in_the_list() -> None:
    names = ["AES128-SHA", "AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]
    assert resolve(names).usable == [
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES128-SHA",
        "AES128-GCM-SHA256",
        "AES128-SHA",
    ]


def test_unknown_names_are_told_apart_from_unavailable_ones() -> None:
    suites = resolve(["", "ecdhe-rsa-aes128-gcm-sha256", "ALL", "RC4-SHA", "TLS_RSA_WITH_3DES_EDE_CBC_SHA"])
    assert suites.unknown == ["", "ecdhe-rsa-aes128-gcm-sha256", "ALL"]
    assert suites.unavailable == ["RC4-SHA", "TLS_RSA_WITH_3DES_EDE_CBC_SHA"]


def test_tls_13_suites_are_dropped_silently() -> None:
    suites = resolve(TLS13_SUITES)
    assert (suites.usable, suites.unknown, suites.unavailable) == ([], [], [])


def test_openssl_takes_every_usable_suite_under_the_name_given() -> None:
    usable = resolve(list(OPENSSL_BY_IANA)).usable
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(":".join(usable))
    assert set(usable) <= {cipher["name"] for cipher in context.get_ciphers()} & set(OPENSSL_NAMES)
    assert len(usable) >= 14
