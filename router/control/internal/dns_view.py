"""What a container may see in DNS: the split view.

Owns which instances a source app is told of, and that a forbidden name costs as much work as an unknown one; does
not own the wire. One law: without a policy to an app behind a name, the name does not exist.
"""

from router.config.internal import Internal, InternalDomain
from router.routing.access import InternalTable
from router.routing.internal_records import Identity, NameEntry

_NOBODY: list[NameEntry] = []
_NO_APP = "\0"
"""No app's GUID: looked for behind an unknown name, so that as much is looked for as behind a known one."""
_UNKNOWN = (_NOBODY, (_NO_APP,))
_SPARE_NAMES = 1024


class View:
    """Names under the internal domains as each source app sees them.

    A look-up that ends in nothing takes the same steps whether the name is unknown or forbidden: the apps behind a
    name are remembered for as long as its entries are the same, so instances are not counted by the clock. Only
    entries announced without an app are looked at one by one.
    """

    def __init__(self, config: Internal) -> None:
        self._domains = {domain.name.lower().rstrip("."): domain for domain in config.domains}
        self._apps: dict[str, tuple[list[NameEntry], tuple[str, ...]]] = {}

    def domain_of(self, name: str) -> InternalDomain | None:
        """Return the internal domain a name is or lies under, the most specific one; None for other names."""
        domains = self._domains
        rest = name
        while rest:
            found = domains.get(rest)
            if found is not None:
                return found
            rest = rest.partition(".")[2]
        return None

    def is_apex(self, name: str) -> bool:
        """Whether a name is an internal domain itself, which always exists."""
        return name in self._domains

    def instances(
        self, name: str, domain: InternalDomain, source: Identity, table: InternalTable
    ) -> list[Identity] | None:
        """Return the instances behind a name that live; None if the source must not know of any."""
        if domain.view == "open":
            return [found for _, found in table.instances(name)]
        apps = self._apps_behind(name, table)
        for app in apps:
            if table.may_resolve(source.app, app):
                return table.resolvable(name, source)
        return (table.resolvable(name, source) or None) if "" in apps else None

    def _apps_behind(self, name: str, table: InternalTable) -> tuple[str, ...]:
        entries = table.names.get(name, _NOBODY)
        seen, apps = self._apps.get(name, _UNKNOWN)
        return apps if seen is entries else self._remember(name, entries, table)

    def _remember(self, name: str, entries: list[NameEntry], table: InternalTable) -> tuple[str, ...]:
        if entries is _NOBODY:
            del self._apps[name]
            return _UNKNOWN[1]
        if len(self._apps) > 2 * len(table.names) + _SPARE_NAMES:
            self._apps.clear()
        apps = tuple({entry.app for entry in entries})
        self._apps[name] = entries, apps
        return apps


def is_ready(domain: InternalDomain, table: InternalTable) -> bool:
    """Whether names can be answered for; the open view needs no policies."""
    return table.names_warm and (table.policies_ready or domain.view == "open")
