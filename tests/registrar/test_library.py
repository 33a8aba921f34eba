"""What `router.registrar` offers to apps: the documented names, without the rest of the router."""

import subprocess
import sys
import tomllib
from pathlib import Path

import router.registrar

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
# As in an app's environment that has neither.
sys.modules["aiohttp"] = sys.modules["yaml"] = None
from router.registrar import Announcer, InternalRoute, Route, TlsFiles
print([name for name in sys.modules if name.startswith("router.")])
"""


def test_importing_it_loads_nothing_of_the_router_but_itself_and_the_wire() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name.split(".")[1] for name in eval(result.stdout)}
    assert loaded == {"registrar", "wire"}


def test_all_that_is_promised_is_there() -> None:
    assert [name for name in router.registrar.__all__ if not hasattr(router.registrar, name)] == []


def test_type_hints_are_delivered_with_the_package() -> None:
    # Without the marker, type checkers take everything of an installed package for `Any`.
    assert (ROOT / "router" / "py.typed").is_file()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "py.typed" in settings["tool"]["setuptools"]["package-data"]["router"]
