"""The option ``-c`` of all commands, in each spelling that Go's flag package knows.

What starts Gorouter and its companions, job templates and scripts, may write ``-c FILE``, ``-c=FILE``,
``--c FILE`` or ``--c=FILE``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class _GoFile(click.Path):
    """A file whose option may stand before it with ``=``, which short options elsewhere take for its first letter.

    A file whose name does begin so is given as ``./=NAME``.
    """

    name = "file"

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Raises `click.BadParameter`, which ends a command with status 2."""
        if isinstance(value, str):
            value = value.removeprefix("=")
            if not value:
                self.fail("names no file", param, ctx)
        return super().convert(value, param, ctx)


def config_option(meaning: str, *also: str, required: bool = False) -> Callable[[Command], Command]:
    """Return the decorator that gives a command ``-c`` as its argument ``config_file``.

    Args:
        meaning: for the command's help.
        also: further names of the option, such as ``-configPath``.
    """
    return click.option("-c", "--c", *also, "config_file", type=_GoFile(), required=required, help=meaning)
