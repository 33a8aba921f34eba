"""A configuration file to a `Config`: read, parse, build, check; everything wrong with it is told at once.

Owns the order of the steps; does not own any of them. One law: either there is a `Config` in which every rule
holds, or there is a `ConfigError` with every reason why not.
"""

import datetime
import difflib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from router.config import ciphers, effects, rules, rules_internal, rules_tls
from router.config.build import Built, build
from router.config.document import DocumentError, Node, decode, parse_document
from router.config.findings import Findings
from router.config.problems import ConfigError, Problem, in_file_order
from router.config.schema import Config

__all__ = ["ConfigError", "Examined", "Loaded", "examine", "load"]

MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_SUGGESTIONS = 100

Rule = Callable[[Config, Findings], None]
"""Judges a configuration by what lies outside of it, such as the files it names."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration fit for use, and what its author should know about it."""

    config: Config = field(default_factory=Config)
    warnings: list[str] = field(default_factory=list)
    """Sentences, key path and line included."""


@dataclass(slots=True)
class Examined:
    """All that can be said about a file; ``config`` may be used only if there are no ``errors``."""

    config: Config = field(default_factory=Config)
    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    unknown: list[Problem] = field(default_factory=list)
    """Keys that nobody reads, with the name that may have been meant."""
    no_effect: list[Problem] = field(default_factory=list)


def load(path: Path | None, now: datetime.datetime | None = None, further: Sequence[Rule] = ()) -> Loaded:
    """Load a configuration file; None stands for an empty one, with which every default applies.

    Args:
        now: the time (aware) that certificates are judged at, the current one by default.
        further: rules to apply after our own.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or breaks rules; it holds all problems.
    """
    if path is None:
        return Loaded()
    found = examine(path, now, further)
    if found.errors:
        raise ConfigError(path, found.errors)
    return Loaded(found.config, [str(warning) for warning in found.warnings])


def examine(path: Path, now: datetime.datetime | None = None, further: Sequence[Rule] = ()) -> Examined:
    """Read a file and apply every rule to it; never raises for what is in the file, or for its absence.

    Args:
        further: rules to apply after our own.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    errors: list[Problem] = []
    warnings: list[Problem] = []
    try:
        root = parse_document(decode(_read(path)), errors.append, warnings.append)
    except DocumentError as error:
        # Nothing further is known, but what was found on the way to the mistake still counts.
        return Examined(errors=[*errors, error.problem], warnings=warnings)
    if root is None:
        warnings.append(Problem("the file holds no settings; every default applies"))
    return _judge(root, errors, warnings, now, further)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DocumentError(f"cannot read the file: {error.strerror or error}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise DocumentError(f"the file is larger than {MAX_FILE_BYTES // 2**20} MiB")
    return raw


def _judge(
    root: Node | None,
    errors: list[Problem],
    warnings: list[Problem],
    now: datetime.datetime,
    further: Sequence[Rule],
) -> Examined:
    built = build(root)
    findings = Findings(built)
    rules.check(built.config, built.given, findings)
    rules_tls.check(built.config, findings, now)
    rules_internal.check_internal(built.config, findings)
    for rule in further:
        rule(built.config, findings)
    return Examined(
        config=replace(built.config, cipher_suites=ciphers.resolve(built.config.cipher_suites).usable),
        errors=in_file_order([*errors, *findings.errors]),
        warnings=in_file_order([*warnings, *findings.warnings]),
        unknown=_unknown(built),
        no_effect=_idle(built),
    )


def _idle(built: Built) -> list[Problem]:
    """Name settings that do nothing, unless they hold their default; unread keys are named in any case."""
    return [
        Problem(reason, key, built.lines[key])
        for key, reason in effects.NO_EFFECT.items()
        if key in built.lines and (key in effects.UNREAD or built.given.get(key) != built.defaults.get(key))
    ]


def _unknown(built: Built) -> list[Problem]:
    keys = [key for key in built.unknown if key not in effects.UNREAD]
    # Looking for likenesses takes a tenth of a millisecond a key, which must not add up.
    likely = {key: _likeness(key, built.unknown[key]) for key in keys[:MAX_SUGGESTIONS]}
    return [Problem(f"ignored{likely.get(key, '')}", key, built.lines[key]) for key in keys]


def _likeness(key: str, names: Collection[str]) -> str:
    close = difflib.get_close_matches(key.rpartition(".")[2], names, n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else ""
