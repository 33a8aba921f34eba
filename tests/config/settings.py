"""The schema as a flat table, for tests that go through every setting."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from msgspec import NODEFAULT, inspect

from router.config.schema import Config


class Setting(NamedTuple):
    key: str
    """Key path, ``[]`` after lists of sections: ``tls_pem[].cert_chain``."""
    kind: inspect.Type
    default: Any
    duration: bool


def settings(kind: inspect.Type | None = None, prefix: str = "") -> Iterator[Setting]:
    """Yield every key of the schema that holds a value, lists of sections and their keys included."""
    section = kind or inspect.type_info(Config)
    assert isinstance(section, inspect.StructType)
    for field in section.fields:
        key = prefix + field.encode_name
        if isinstance(field.type, inspect.StructType):
            yield from settings(field.type, f"{key}.")
            continue
        default = field.default if field.default_factory is NODEFAULT else field.default_factory()
        yield Setting(key, field.type, default, _is_duration(field.type))
        if isinstance(field.type, inspect.ListType) and isinstance(field.type.item_type, inspect.StructType):
            yield from settings(field.type.item_type, f"{key}[].")


def _is_duration(kind: inspect.Type) -> bool:
    return isinstance(kind, inspect.Metadata) and (kind.extra or {}).get("go") == "time.Duration"
