import pytest
from cryptography import x509

from router.config.distinguished_name import full_text_of, text_of, text_of_setting
from router.config.sections import DistinguishedName
from tests.support.odd_certificates import name_of

WHOLE = "C=DE/O=Org/OU=u1/OU=u2/L=Town/ST=Land/STREET=Street 1/POSTALCODE=12345/CN=name/SERIALNUMBER=7"
WHOLE_TEXT = "SERIALNUMBER=7,CN=name,POSTALCODE=12345,STREET=Street 1,ST=Land,L=Town,OU=u1+OU=u2,O=Org,C=DE"


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        (WHOLE, WHOLE_TEXT),
        ("/".join(reversed(WHOLE.split("/"))), WHOLE_TEXT.replace("OU=u1+OU=u2", "OU=u2+OU=u1")),
        ("CN=a", "CN=a"),
        ("CN=first/CN=last", "CN=last"),
        ("O=a/O=b", "O=a+O=b"),
        ("", ""),
        ("CN=a,b", r"CN=a\,b"),
        ('CN=a"b', r"CN=a\"b"),
        ("CN=a\\;<>", r"CN=a\\\;\<\>"),
        ("CN= a b ", r"CN=\ a b\ "),
        ("CN=#a#", r"CN=\#a#"),
        ("CN=Müller", "CN=Müller"),
        ("CN=app:1=2", "CN=app:1=2"),
    ],
)
def test_text_is_the_one_go_prints(subject: str, text: str) -> None:
    assert text_of(name_of(subject)) == full_text_of(name_of(subject)) == text


def test_one_part_with_two_values_is_like_two_parts() -> None:
    assert text_of(name_of("OU=a+OU=b/CN=x")) == text_of(name_of("OU=a/OU=b/CN=x"))


def test_attributes_that_settings_do_not_know_follow_in_full_only() -> None:
    name = name_of("EMAIL=a@b.test/CN=x/UID=u1")

    assert text_of(name) == "CN=x"
    assert full_text_of(name) == (
        "CN=x,0.9.2342.19200300.100.1.1=#13027531,1.2.840.113549.1.9.1=#0c0861" + b"@b.test".hex()
    )


@pytest.mark.parametrize("size", [127, 128, 300])
def test_long_value_has_its_length_in_der(size: int) -> None:
    text = full_text_of(name_of("EMAIL=" + "a" * size))
    length = {127: "7f", 128: "8180", 300: "82012c"}[size]
    assert text == f"1.2.840.113549.1.9.1=#13{length}" + "61" * size


def test_setting_and_certificate_have_the_same_text() -> None:
    setting = DistinguishedName(
        country=["DE"],
        organization=["Org"],
        organizational_unit=["u1", "u2"],
        locality=["Town"],
        province=["Land"],
        street_address=["Street 1"],
        postal_code=["12345"],
        common_name="name",
        serial_number="7",
    )
    assert text_of_setting(setting) == text_of(name_of(WHOLE)) == WHOLE_TEXT
    assert text_of_setting(DistinguishedName()) == text_of(x509.Name([])) == ""
