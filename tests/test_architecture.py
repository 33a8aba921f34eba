"""The layout's rules, read from the source: who imports whom, how long things may be, what is tested where."""

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "router"
MODULES = sorted(PACKAGE.rglob("*.py"))

# In the order in which a request travels. A part may import from its own folder without being named here.
ALLOWED: dict[str, set[str]] = {
    "config": set(),
    "wire": set(),
    "routing": {"wire"},
    "read_buffer": set(),
    "tls_stream": {"read_buffer", "wire"},
    "metrics": set(),
    "log": set(),
    "log_limit": set(),
    "handshake_log": {"log", "log_limit", "tls_stream"},
    "http_server": set(),
    "memory": set(),
    "descriptors": {"log"},
    "view": set(),
    "certs": set(),
    "tls": {"config"},
    "tls_ancestors": {"config"},
    "tls_client_rules": {"config", "tls_ancestors"},
    "tls_front": {"config", "tls", "tls_client_rules"},
    "sync": {"routing"},
    "backend": {"read_buffer", "routing", "tls_stream", "wire"},
    "proxy": {"backend", "log", "log_limit", "metrics", "routing", "wire"},
    "frontend": {"proxy", "read_buffer", "wire"},
    "assembly": {
        "backend",
        "config",
        "frontend",
        "log",
        "metrics",
        "proxy",
        "routing",
        "tls",
        "tls_client_rules",
        "tls_front",
        "tls_stream",
        "wire",
    },
    "acceptor": {"config", "frontend", "handshake_log", "log", "sync", "tls", "tls_front", "tls_stream"},
    "dataplane": {
        "acceptor",
        "assembly",
        "backend",
        "config",
        "frontend",
        "log",
        "metrics",
        "proxy",
        "routing",
        "sync",
        "tls_front",
    },
    "worker": {"config", "dataplane", "descriptors", "log", "memory", "proxy", "routing", "sync", "tls"},
    "control": {"config", "http_server", "log", "log_limit", "metrics", "routing", "sync", "tls", "wire"},
    "registrar": {"config", "http_server", "wire"},
    "docker": {"config", "log", "registrar", "wire"},
    "dev": {"certs", "docker", "registrar", "view", "wire"},
    "policy": {"commands", "config", "routing", "view"},
    "commands": {"certs", "config", "dev", "docker", "policy", "registrar", "view"},
    "checks": {"config", "proxy"},
    "cli": {"checks", "commands", "config", "control", "worker"},
    "__main__": {"cli"},
}
IMPURE = {
    "asyncio",
    "datetime",
    "logging",
    "os",
    "random",
    "secrets",
    "socket",
    "ssl",
    "threading",
    "time",
    "uvloop",
}
"""Not imported by code that only decides: time, randomness and I/O are its arguments."""

LINES_OF_A_MODULE = 400
LINES_OF_A_FUNCTION = 50
NAMES_NOT_USED = ("upstream", "downstream", "manager", "helper", "util")

TESTED_ELSEWHERE = {
    "acceptor.py": "tests/test_dataplane.py and tests/frontend/test_proxy_protocol.py, on real sockets",
    "__main__.py": "tests/e2e: every router there is started by it",
    "checks.py": "tests/config/test_check.py: by the command; tests/live/test_error_page.py: at a start",
    "cli.py": "tests/e2e: every router there is started by it",
    "commands.py": "tests/registrar and tests/e2e/test_dev.py run each command",
    "worker.py": "tests/control/test_supervisor.py and tests/e2e/test_workers.py: it is a process",
    "dataplane.py": "tests/live: it only assembles what is tested there, on real sockets",
    "sync.py": "tests/control/test_publisher.py: both of its ends over a real socketpair",
    "metrics.py": "tests/control/test_totals.py adds its counters up",
    "tls.py": "tests/live/test_front_tls.py and test_backend_tls.py: contexts show what they are in handshakes",
    "tls_stream.py": "tests/live/test_front_tls.py and test_backend_tls.py",
    "assembly.py": "tests/live: each key by its effect on a running router",
    "backend/connection.py": "tests/live/test_responses.py and test_bodies.py",
    "backend/connections.py": "tests/live/test_retry.py",
    "backend/dial.py": "tests/backend/test_connections.py",
    "backend/http2_stream.py": "tests/backend/test_http2.py: a stream is nothing without its connection",
    "backend/shared.py": "tests/backend/test_http2.py: who gets which connection",
    "config/internal.py": "tests/config/test_schema.py",
    "config/kinds.py": "tests/config/test_build.py",
    "config/sections.py": "tests/config/test_schema.py",
    "control/instruments.py": "tests/e2e/test_watched.py: it only holds together what is tested there",
    "control/internal/policies_read_only.py": "test_policies_file.py, test_policies_server.py beside it",
    "control/internal/policy_store.py": "only a protocol that stores implement",
    "control/internal/policy_bucket.py": "tests/control/internal/test_policies_jetstream.py, on a real server",
    "control/internal/services.py": "tests/e2e/test_internal.py: it only holds together what is tested there",
    "control/run.py": "tests/e2e: every router there is started by it",
    "control/status_tls.py": "tests/control/test_admin.py",
    "control/worker_process.py": "tests/control/test_supervisor.py",
    "dev/command.py": "tests/e2e/test_dev.py",
    "dev/screen.py": "tests/e2e/test_dev.py",
    "dev/stack.py": "tests/e2e/test_dev.py",
    "docker/command.py": "tests/docker/test_run.py",
    "docker/speaker.py": "tests/docker/test_run.py: what it says is heard by a real router",
    "docker/watch.py": "tests/docker/test_run.py: it follows a real engine",
    "frontend/connection.py": "tests/frontend/test_http1.py and test_http2.py: it is half of either connection",
    "frontend/http1.py": "tests/live: its table of framing cases, bodies, time-outs, limits",
    "frontend/writing.py": "tests/live/test_headers.py and test_bodies.py",
    "proxy/access_log.py": "tests/live/test_access_log.py",
    "proxy/attempts.py": "tests/live/test_retry.py and test_errors.py",
    "proxy/client.py": "only a protocol that frontends implement",
    "proxy/exchange.py": "tests/live/test_bodies.py, test_flow.py, test_retry.py",
    "proxy/features.py": "values without behaviour",
    "proxy/forward.py": "tests/live/test_retry.py and test_errors.py",
    "proxy/instances.py": "tests/live/test_balancing.py",
    "proxy/log_writer.py": "tests/live/test_access_log.py",
    "proxy/reply.py": "tests/live/test_errors.py",
    "proxy/rewrite.py": "tests/live/test_headers.py",
    "registrar/observer.py": "tests/registrar/test_announcer.py and test_identity_agent.py: who is told what",
    "routing/identity_observer.py": "tests/routing/test_identities.py: who is told what",
    "routing/internal_records.py": "values without behaviour",
    "routing/records.py": "values without behaviour",
}
"""Modules without a test file of their own name, and what tests them."""


def module_id(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def part_of(path: Path) -> str:
    """Return the folder a module is in, or its own name at the top."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path: Path) -> Iterator[str]:
    """Yield the full names of what a module imports anywhere, for types alone too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""
            if node.module == "router":
                yield from (f"router.{alias.name}" for alias in node.names if (PACKAGE / alias.name).exists())


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield name and length of every function of a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.fixture(params=[path for path in MODULES if path.name != "__init__.py"], ids=module_id)
def module(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_parts_import_only_what_lies_on_their_way(module: Path) -> None:
    part = part_of(module)
    found = {name.split(".")[1] for name in imports(module) if name.startswith("router.")}
    assert found - {part} <= ALLOWED[part]


def test_deciding_code_imports_nothing_that_acts(module: Path) -> None:
    if part_of(module) in ("wire", "routing"):
        assert {name.split(".")[0] for name in imports(module)} & IMPURE == set()


def test_nothing_imports_from_outside_the_package_or_its_dependencies(module: Path) -> None:
    assert not {name.split(".")[0] for name in imports(module)} & {"tests", "loadtest", "shared"}


def test_no_module_is_too_long(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= LINES_OF_A_MODULE


def test_no_function_is_too_long(module: Path) -> None:
    assert [name for name, lines in functions(module) if lines > LINES_OF_A_FUNCTION] == []


def test_names_follow_the_vocabulary(module: Path) -> None:
    names = {module.stem}
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name.lower())
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id.lower())
    assert [name for name in names for word in NAMES_NOT_USED if word in name.split("_")] == []


def test_module_says_what_it_owns(module: Path) -> None:
    assert module.name == "__main__.py" or ast.get_docstring(ast.parse(module.read_text()))


def test_module_is_tested_under_its_name(module: Path) -> None:
    relative = module.relative_to(PACKAGE)
    counterpart = ROOT / "tests" / relative.with_name(f"test_{relative.name}")
    split = list(counterpart.parent.glob(f"{counterpart.stem}_*.py"))
    assert counterpart.exists() or split or module_id(module) in TESTED_ELSEWHERE


def test_functions_are_short_as_a_rule() -> None:
    assert statistics.median(lines for path in MODULES for _, lines in functions(path)) < 10


def test_lists_of_exceptions_name_what_exists() -> None:
    assert set(TESTED_ELSEWHERE) <= {module_id(path) for path in MODULES}
    parts = {part_of(path) for path in MODULES if module_id(path) != "__init__.py"}
    assert set(ALLOWED) == parts


@pytest.mark.parametrize(
    ("start", "foreign"),
    [
        ("router.worker", ["nats", "yaml", "aiohttp", "click", "router.control", "router.registrar"]),
        (
            "router.control.run",
            ["router.worker", "router.dataplane", "router.frontend", "router.proxy", "router.backend"],
        ),
        ("router.cli", ["nats", "yaml", "aiohttp", "cryptography", "router.worker", "router.control"]),
    ],
)
def test_process_loads_nothing_foreign(start: str, foreign: list[str]) -> None:
    """What one module imports through others counts too: it costs memory and start-up time in every process."""
    program = f"import sys, {start}; print([name for name in {foreign!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


def test_the_table_of_folders_names_every_part() -> None:
    document = (ROOT / "docs" / "architecture.md").read_text()
    table = document.partition("## Folders")[2].partition("\n## ")[0]
    missing = [part for part in ALLOWED if f"`{part}/`" not in table and f"`{part}.py`" not in table]
    assert missing == []


@pytest.mark.parametrize(
    "page", [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: page.stem
)
def test_modules_that_a_page_speaks_of_exist(page: Path) -> None:
    """Such as `routing/registry`, with ``.py`` or without, and also within the drawings of the ways."""
    folders = "|".join(sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()))
    named = set(re.findall(rf"(?<![\w/.-])(?:{folders})(?:/[a-z0-9_]+)+(?![\w/-])", page.read_text()))
    assert [name for name in sorted(named) if not _is_there(name)] == []


def _is_there(name: str) -> bool:
    return any((root / name).is_dir() or (root / f"{name}.py").exists() for root in (PACKAGE, ROOT / "tests"))
