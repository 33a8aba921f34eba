"""The kinds of value a setting can hold, as annotations that both msgspec and the loader read.

Owns what a value may be; how YAML text becomes one is `build`'s business. The names given to Gorouter's types
in error messages live here too, so that operators find the wording they know.
"""

from typing import Annotated

from msgspec import Meta

INT64_MAX = 2**63 - 1

Duration = Annotated[float, Meta(ge=0, extra={"go": "time.Duration"})]
"""Seconds. In the file a Go duration string: ``30s``, ``1m30s``, ``500ms``."""

SignedDuration = Annotated[float, Meta(extra={"go": "time.Duration"})]
"""Seconds, where a rule of its own refuses what is below 0."""

Port = Annotated[int, Meta(ge=0, le=65535, extra={"go": "uint16"})]
"""A TCP port."""

OAuthPort = Annotated[int, Meta(ge=-1, le=65535, extra={"go": "int"})]
"""A TCP port; -1, as older deployments write it, and 0 mean that there is none with TLS."""

Count = Annotated[int, Meta(ge=0, le=INT64_MAX, extra={"go": "int"})]
"""A number of things or bytes, 0 or more."""

Integer = Annotated[int, Meta(ge=-INT64_MAX - 1, le=INT64_MAX, extra={"go": "int"})]
"""Any 64-bit integer."""

Ciphers = Annotated[list[str], Meta(extra={"go": "string", "separator": ":"})]
"""Cipher suite names: one colon-separated string in the file, OpenSSL names in a `Config`."""
