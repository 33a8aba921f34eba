"""What a caller of the policy API may do: scopes, spaces and the quota.

Owns the decisions and their texts, which are those of Cloud Foundry's policy server; does not own who the caller
is. One law: an app that nobody can place in a space is nobody's, so only an administrator may name it.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Protocol

from router.control.internal.policy_auth import ADMIN, WRITE, Caller
from router.routing.access import InternalTable
from router.routing.internal_records import Policy

ADMIN_SCOPES = (ADMIN,)
WRITE_SCOPES = (ADMIN, WRITE)


class Refusal(Exception):
    """A request is not granted.

    Attributes:
        status: of the answer; the exception's text is its error text.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class DirectoryError(Exception):
    """A directory cannot be asked at present."""


class SpaceDirectory(Protocol):
    """Knows apps and the spaces they are in."""

    async def spaces(self, apps: Collection[str]) -> dict[str, str]:
        """Return the space GUID of each of these apps that is known. Raises `DirectoryError`."""
        ...

    async def dead(self, apps: Collection[str]) -> frozenset[str]:
        """Return those of these apps that exist no more: only what is certain. Raises `DirectoryError`."""
        ...


class WorkloadSpaces:
    """The directory that is always there: apps are in the space that their running instances are in.

    An app without instances may well exist, so that none is ever known to be dead.
    """

    def __init__(self, table: InternalTable) -> None:
        self._table = table

    async def spaces(self, apps: Collection[str]) -> dict[str, str]:
        wanted = frozenset(apps)
        found: dict[str, set[str]] = {}
        for identity in self._table.identities.values():
            if identity.app in wanted:
                found.setdefault(identity.app, set()).add(identity.space)
        # Agents that disagree about an app, or know no space, leave it unknown.
        return {app: space for app, spaces in found.items() if len(spaces) == 1 for space in spaces if space}

    async def dead(self, apps: Collection[str]) -> frozenset[str]:
        return frozenset()


def check_scopes(caller: Caller, allowed: Iterable[str]) -> None:
    """Raise `Refusal` unless the caller has one of the scopes."""
    names = list(allowed)
    if not set(caller.scopes).intersection(names):
        provided = " ".join(caller.scopes)
        text = f"provided scopes [{provided}] do not include allowed scopes [{' '.join(names)}]"
        raise Refusal(403, text)


async def check_spaces(caller: Caller, policies: Collection[Policy], directory: SpaceDirectory) -> None:
    """Raise `Refusal` unless all apps are in spaces of the caller; administrators need none.

    The policy server lets pass what its Cloud Controller does not know; here that is refused.
    """
    if caller.is_admin:
        return
    apps = apps_of(policies)
    try:
        spaces = await directory.spaces(apps)
    except DirectoryError as error:
        raise Refusal(500, "check access failed") from error
    if any(spaces.get(app) not in caller.spaces for app in apps):
        raise Refusal(403, "one or more applications cannot be found or accessed")


async def visible(caller: Caller, policies: list[Policy], directory: SpaceDirectory) -> list[Policy]:
    """Return the policies the caller may see: those with both apps in spaces of the caller. Raises `Refusal`."""
    if caller.is_admin:
        return policies
    try:
        spaces = await directory.spaces(apps_of(policies))
    except DirectoryError as error:
        raise Refusal(500, "filter policies failed") from error
    own = {app for app, space in spaces.items() if space in caller.spaces}
    return [each for each in policies if each.source in own and each.destination in own]


def check_quota(added: Iterable[Policy], present: Iterable[Policy], quota: int) -> None:
    """Raise `Refusal` if an app would be the source of more policies than the quota; not for administrators.

    As in the policy server, a policy that is added again counts again.
    """
    counts = Counter(policy.source for policy in added)
    sources = frozenset(counts)
    counts.update(policy.source for policy in present if policy.source in sources)
    if any(count > quota for count in counts.values()):
        raise Refusal(403, "policy quota exceeded")


def apps_of(policies: Iterable[Policy]) -> frozenset[str]:
    """Return the GUIDs of all apps that policies name."""
    return frozenset(app for policy in policies for app in (policy.source, policy.destination))
