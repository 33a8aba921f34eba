"""The commands for people other than the operator's supervisor: announcing, looking, developing."""

import click


def add_commands(group: click.Group) -> None:
    """Attach every command that does not belong to running the router itself."""
