"""What a container's labels ask for: ``router.uris`` and its kin, read with every mistake told.

Owns the labels' names and what they may hold; does not own what comes of them (`docker.offer`). One law: labels
that say who a container is, or which names lead to it, count only if they were given with the container. An image
brings labels of its own, and whoever built it must not be able to take another app's name or identity.
"""

from collections.abc import Callable, Mapping

from msgspec import Struct

from router.wire.announcement import MAX_WEIGHT

PREFIX = "router."
TAGS = "router.tags."

NOT_FROM_IMAGES = frozenset(
    f"{PREFIX}{name}"
    for name in ("uris", "internal", "app", "space", "organization", "instance", "route_service_url")
)

COMPOSE_PROJECT = "com.docker.compose.project"
COMPOSE_SERVICE = "com.docker.compose.service"
COMPOSE_NUMBER = "com.docker.compose.container-number"
"""Counts the containers of a service from 1; podman-compose sets the same three."""


class Wishes(Struct, frozen=True, kw_only=True):
    """What the labels say; empty or 0 where they say nothing."""

    uris: tuple[str, ...] = ()
    internal: tuple[str, ...] = ()
    internal_port: int = 0
    port: int = 0
    tls_port: int = 0
    san: str = ""
    protocol: str = ""
    loadbalancing: str = ""
    hash_header: str = ""
    hash_balance: str = ""
    weight: int | None = None
    route_service_url: str = ""
    availability_zone: str | None = None
    tags: Mapping[str, str] = {}
    app: str = ""
    space: str = ""
    organization: str = ""
    instance: str = ""
    index: int | None = None
    task: bool = False
    problems: tuple[str, ...] = ()
    """One sentence for each mistake."""
    unknown: tuple[str, ...] = ()
    """Labels under our prefix that mean nothing; perhaps misspelt."""
    from_image: tuple[str, ...] = ()
    """Labels that were passed over because the image has them."""

    @property
    def ask_for_routes(self) -> bool:
        """Whether anything but an identity is asked for."""
        return bool(self.uris or self.internal or self.port or self.tls_port)


def read_labels(labels: Mapping[str, str], of_image: Mapping[str, str] | None = None) -> Wishes:
    """Read a container's labels; those of its image are among them, and are given again as ``of_image``."""
    ours = {name: value.strip() for name, value in labels.items() if name.startswith(PREFIX)}
    image = of_image or {}
    from_image = tuple(sorted(name for name in NOT_FROM_IMAGES & ours.keys() if image.get(name) == labels[name]))
    for name in from_image:
        del ours[name]
    return _Reading(ours, from_image).wishes()


class _Reading:
    """Takes label after label; what is left in the end is unknown."""

    def __init__(self, labels: dict[str, str], from_image: tuple[str, ...]) -> None:
        self._labels = labels
        self._from_image = from_image
        self._problems: list[str] = []

    def wishes(self) -> Wishes:
        return Wishes(
            uris=self._list("uris"),
            internal=self._list("internal"),
            internal_port=self._port("internal_port"),
            port=self._port("port"),
            tls_port=self._port("tls_port"),
            san=self._text("san"),
            protocol=self._text("protocol"),
            loadbalancing=self._text("loadbalancing"),
            hash_header=self._text("hash_header"),
            hash_balance=self._text("hash_balance"),
            weight=self._weight(),
            route_service_url=self._text("route_service_url"),
            availability_zone=self._labels.pop(f"{PREFIX}availability_zone", None),
            tags=self._tags(),
            app=self._text("app"),
            space=self._text("space"),
            organization=self._text("organization"),
            instance=self._text("instance"),
            index=self._index(),
            task=self._task(),
            from_image=self._from_image,
            unknown=tuple(sorted(self._labels)),
            problems=tuple(self._problems),
        )

    def _text(self, name: str) -> str:
        return self._labels.pop(PREFIX + name, "")

    def _list(self, name: str) -> tuple[str, ...]:
        given = self._text(name)
        found = tuple(dict.fromkeys(given.replace(",", " ").split()))
        if given and not found:
            self._problems.append(f"label {PREFIX}{name} names nothing: {given!r}")
        return found

    def _port(self, name: str) -> int:
        return self._number(name, lambda port: 1 <= port <= 65535, "a port between 1 and 65535") or 0

    def _index(self) -> int | None:
        return self._number("index", lambda index: True, "a number from 0")

    def _weight(self) -> int | None:
        return self._number(
            "weight", lambda weight: weight <= MAX_WEIGHT, f"a whole number from 0 to {MAX_WEIGHT}"
        )

    def _number(self, name: str, good: Callable[[int], bool], what: str) -> int | None:
        text = self._labels.pop(PREFIX + name, None)
        if text is None:
            return None
        if text.isascii() and text.isdecimal() and len(text) <= 9 and good(int(text)):
            return int(text)
        self._problems.append(f"label {PREFIX}{name} is {text[:80]!r}, not {what}")
        return None

    def _task(self) -> bool:
        text = self._text("task").lower()
        if text not in ("", "true", "false"):
            self._problems.append(f"label {PREFIX}task is {text[:80]!r}, neither true nor false")
        return text == "true"

    def _tags(self) -> dict[str, str]:
        names = [name for name in self._labels if name.startswith(TAGS) and name != TAGS]
        return {name.removeprefix(TAGS): self._labels.pop(name) for name in sorted(names)}


def compose_app(labels: Mapping[str, str]) -> str:
    """Return ``PROJECT-SERVICE`` of a container that Compose made; empty for others."""
    project, service = labels.get(COMPOSE_PROJECT, ""), labels.get(COMPOSE_SERVICE, "")
    return f"{project}-{service}" if project and service else ""


def compose_index(labels: Mapping[str, str]) -> int | None:
    """Return a container's place in the order in which Compose scaled its service, from 0."""
    number = labels.get(COMPOSE_NUMBER, "")
    return int(number) - 1 if number.isascii() and number.isdecimal() and int(number[:9]) > 0 else None
