"""Port ranges as people write them: ``5000`` or ``5000-5010``.

Owns the text form; one law: what is read back from what was written is the same range.
"""

import re

MAX_PORT = 65535
_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


def parse_ports(text: str) -> tuple[int, int]:
    """Return first and last port of a range; a single port is both.

    Raises:
        ValueError: saying what is wrong with the text.
    """
    match = _RANGE.fullmatch(text)
    if match is None:
        raise ValueError(f"not a port or a range of ports such as 5000-5010: {text!r}")
    start = int(match[1])
    end = start if match[2] is None else int(match[2])
    if not 1 <= start <= MAX_PORT or not 1 <= end <= MAX_PORT:
        raise ValueError(f"ports are 1 to {MAX_PORT}, not {text}")
    if start > end:
        raise ValueError(f"the first port of {text} is behind the last")
    return start, end


def ports_text(start: int, end: int) -> str:
    """Write a range."""
    return str(start) if start == end else f"{start}-{end}"
