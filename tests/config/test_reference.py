"""docs/configuration.md against the schema: every key, its default and its status, and nothing else."""

import json
import re
from pathlib import Path

from router.config.durations import format_duration
from router.config.effects import UNREAD, status
from tests.config.settings import Setting, settings

REFERENCE = Path(__file__).parents[2] / "docs" / "configuration.md"
_ROW = re.compile(r"\| `([^`]+)` \| ([^|]+) \| `?([^|`]+)`? \| ([^|]+) \| (.+) \|")


def rows() -> dict[str, tuple[str, str]]:
    found = [_ROW.fullmatch(line) for line in REFERENCE.read_text().splitlines() if line.startswith("| `")]
    assert all(found)
    keys = [row[1] for row in found if row]
    assert len(keys) == len(set(keys))
    return {row[1]: (row[3], row[4]) for row in found if row}


def shown(setting: Setting) -> str:
    """Write a default the way the document does."""
    if setting.duration:
        return format_duration(setting.default)
    if setting.key == "nats.hosts":
        return "localhost:4222"
    if setting.key == "cipher_suites":
        return '""'
    if setting.key.endswith("_buckets"):
        return f"[{', '.join(f'{bound:g}' for bound in setting.default)}]"
    return json.dumps(setting.default)


def test_the_reference_names_every_key_and_no_other() -> None:
    assert set(rows()) == {setting.key for setting in settings()} | set(UNREAD)


def test_the_reference_tells_every_default_and_status() -> None:
    table = rows()
    for setting in settings():
        assert table[setting.key] == (shown(setting), status(setting.key.replace("[]", ""))), setting.key
