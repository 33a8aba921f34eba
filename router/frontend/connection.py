"""What a worker needs of every client connection, whatever protocol it speaks."""

from typing import Protocol


class Served(Protocol):
    """A client connection from accept to close."""

    deadline: float
    """Monotonic seconds after which `expire` is to be called; 0 is never."""

    def expire(self) -> None:
        """The deadline has passed."""

    def drain(self) -> None:
        """Take no more requests: close as soon as those at hand are answered, or at once if there are none."""

    def is_tunnel(self) -> bool:
        """Whether nothing goes on here but tunnels, which may last for hours."""

    def abort(self) -> None:
        """Close at once."""
