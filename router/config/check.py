"""``router check``: tells a person everything about a configuration file."""

from collections.abc import Sequence
from pathlib import Path

import click

from router.config.load import Examined, Rule, examine
from router.config.problems import Problem


def check(path: Path, further: Sequence[Rule] = ()) -> int:
    """Print every finding about a file, one a line as ``FILE:LINE: key.path: message``, and a verdict.

    Args:
        further: rules of parts that the configuration is for, about the files it names.

    Returns:
        The exit status: 0 if the router would start with this file, 1 if not.
    """
    found = examine(path, further=further)
    for title, colour, problems in _chapters(found):
        if problems:
            click.secho(title, fg=colour, bold=True)
            for problem in problems:
                click.echo(f"  {problem.located(path)}")
            click.echo()
    click.echo(_verdict(path, found))
    return 1 if found.errors else 0


def _chapters(found: Examined) -> list[tuple[str, str, list[Problem]]]:
    return [
        ("Errors", "red", found.errors),
        ("Warnings", "yellow", found.warnings),
        ("Unknown keys", "yellow", found.unknown),
        ("Accepted, without effect", "cyan", found.no_effect),
    ]


def _verdict(path: Path, found: Examined) -> str:
    count = len(found.errors)
    if count:
        return f"{path}: {count} {'error' if count == 1 else 'errors'}; the router will not start with this file"
    remarks = len(found.warnings) + len(found.unknown)
    if remarks:
        return f"{path}: valid, with {remarks} {'remark' if remarks == 1 else 'remarks'}"
    return f"{path}: valid"
