"""docs/operating.md against the code: nothing that operators may come to read is missing there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from router.control.families import GOROUTER_COUNTERS, GOROUTER_GAUGES, PROCESS_TEXTS
from router.metrics import Counters

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "operating.md").read_text()
OTHERS = ("dev", "docker", "registrar", "config")
"""Parts that do not write to the router's component log."""
LEVELS = ("debug", "info", "warn", "error")
MESSAGE = re.compile(r"[a-z]+([-.][a-z]+)+")


def messages() -> Iterator[str]:
    """Yield the messages of all lines that the code writes to the component log."""
    for file in (ROOT / "router").rglob("*.py"):
        if file.relative_to(ROOT / "router").parts[0] not in OTHERS:
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                    first = node.args[0]
                    if node.func.attr in LEVELS and isinstance(first, ast.Constant):
                        yield str(first.value)


def is_told(message: str) -> bool:
    """Whether the guide names a message, perhaps as ``…-registered`, `-unregistered```."""
    if f"`{message}`" in TEXT:
        return True
    parts = re.split(r"(?=[-.])", message)
    return any(f"`{''.join(parts[at:])}`" in TEXT and "".join(parts[:at]) in TEXT for at in range(1, len(parts)))


def test_every_message_of_the_component_log_is_explained() -> None:
    known = {message for message in messages() if MESSAGE.fullmatch(message)}
    assert len(known) > 80
    assert {message for message in known if not is_told(message)} == set()


def test_every_metric_is_explained() -> None:
    own = {
        f"router_{name}_total"
        for name in Counters().as_dict()
        if name not in GOROUTER_COUNTERS and not name.startswith(("responses_", "internal_denials_", "total_"))
    }
    names = {*GOROUTER_COUNTERS, *GOROUTER_GAUGES, *PROCESS_TEXTS, *own}
    assert {name for name in names if f"`{name}`" not in TEXT} == set()
