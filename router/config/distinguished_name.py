"""X.509 names as text, in the form that Go's ``pkix.Name`` prints, which Gorouter compares and forwards.

Owns the form; does not own what names are compared for. Parts come in a fixed order, most specific first, whatever
their order in the certificate; values of one part are joined by ``+`` in the order in which they stand there.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from router.config.sections import DistinguishedName

if TYPE_CHECKING:
    from cryptography import x509

_PARTS = {
    "2.5.4.5": ("SERIALNUMBER", "serial_number"),
    "2.5.4.3": ("CN", "common_name"),
    "2.5.4.17": ("POSTALCODE", "postal_code"),
    "2.5.4.9": ("STREET", "street_address"),
    "2.5.4.8": ("ST", "province"),
    "2.5.4.7": ("L", "locality"),
    "2.5.4.11": ("OU", "organizational_unit"),
    "2.5.4.10": ("O", "organization"),
    "2.5.4.6": ("C", "country"),
}
"""In the order of the text: object identifier, short form, setting."""

_SINGLE = ("2.5.4.5", "2.5.4.3")
"""Parts of which Go keeps the last value alone."""

_PRINTABLE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 '()+,-./:=?")
_PRINTABLE_STRING, _UTF8_STRING, _LONG_LENGTH = 0x13, 0x0C, 0x80


def text_of(name: "x509.Name") -> str:
    """Return the text by which names are compared: the nine parts that settings know, and no others."""
    return ",".join(_known_parts(_values(name)))


def full_text_of(name: "x509.Name") -> str:
    """Return the text with every attribute: what has no short form follows, as ``OID=#`` and hexadecimal DER."""
    others = [
        f"{attribute.oid.dotted_string}=#{_der_text(str(attribute.value))}"
        for attribute in name
        if attribute.oid.dotted_string not in _PARTS
    ]
    return ",".join([*_known_parts(_values(name)), *reversed(others)])


def text_of_setting(name: DistinguishedName) -> str:
    """Return the text of a name in the configuration; equal to `text_of` of the certificates it stands for."""
    wanted = {oid: getattr(name, setting) for oid, (_, setting) in _PARTS.items()}
    return ",".join(_known_parts({oid: [each] if isinstance(each, str) else each for oid, each in wanted.items()}))


def _values(name: "x509.Name") -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for attribute in name:
        values.setdefault(attribute.oid.dotted_string, []).append(str(attribute.value))
    for oid in _SINGLE:
        values[oid] = values.get(oid, [""])[-1:]
    return values


def _known_parts(values: Mapping[str, Sequence[str]]) -> list[str]:
    texts = []
    for oid, (short, _) in _PARTS.items():
        given = values.get(oid, ())
        if oid in _SINGLE and not any(given):
            continue
        if given:
            texts.append("+".join(f"{short}={_escaped(value)}" for value in given))
    return texts


def _escaped(value: str) -> str:
    last = len(value) - 1
    return "".join(
        f"\\{each}"
        if each in ',+"\\<>;' or (each == " " and index in (0, last)) or (each == "#" and index == 0)
        else each
        for index, each in enumerate(value)
    )


def _der_text(value: str) -> str:
    tag = _PRINTABLE_STRING if _PRINTABLE.issuperset(value) else _UTF8_STRING
    content = value.encode()
    size = len(content)
    if size < _LONG_LENGTH:
        length = bytes([size])
    else:
        octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
        length = bytes([_LONG_LENGTH | len(octets)]) + octets
    return (bytes([tag]) + length + content).hex()
