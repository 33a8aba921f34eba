"""The internal policy API: what agents on container hosts poll, behind client certificates.

Owns its paths and answers; does not own the handshake, which alone says who may ask. One law: while the policies
cannot be relied on it answers with an error, which makes agents keep the rules they have.

Paths and bodies are those of Cloud Foundry's policy server. Any version in the path gets the shape of ``v1``.
"""

import msgspec
from aiohttp import web
from msgspec import Struct

from router.control.internal import policy_answers as answers
from router.control.internal import policy_mapper as mapper
from router.control.internal.policy_checks import Refusal
from router.control.internal.policy_external import read_body
from router.control.internal.policy_store import PolicyStore
from router.log import Logger
from router.routing.access import InternalTable

BASE = "/networking/{version}/internal"


class _Tag(Struct):
    id: str = ""
    type: str = ""


class InternalApi:
    """Answers the internal API's requests.

    Args:
        store: where policies are kept.
        table: says whether the policies can be relied on.
        logger: hears of what goes wrong.
    """

    def __init__(self, store: PolicyStore, table: InternalTable, logger: Logger) -> None:
        self._store = store
        self._table = table
        self._logger = logger

    def application(self) -> web.Application:
        """Return what serves the API."""
        app = web.Application(middlewares=[answers.errors(self._logger)])
        app.on_response_prepare.append(answers.finish_headers([]))
        app.router.add_get(f"{BASE}/policies", self._policies)
        app.router.add_get(f"{BASE}/policies_last_updated", self._last_updated)
        app.router.add_get(f"{BASE}/security_groups", self._security_groups)
        app.router.add_put(f"{BASE}/tags", self._tag)
        return app

    async def _policies(self, request: web.Request) -> web.StreamResponse:
        self._check_ready("database read failed")
        wanted = mapper.Filter(either=mapper.filter_from(request.query).either)
        tags = self._store.tags
        policies = [policy for policy in self._store.policies if wanted.wants(policy)]
        return answers.text(mapper.tagged_listing(policies, lambda app: mapper.tag_text(tags.get(app, 0))))

    async def _last_updated(self, _: web.Request) -> web.StreamResponse:
        self._check_ready("getting policies last updated failed")
        return answers.text(str(self._store.last_updated_ns))

    async def _security_groups(self, request: web.Request) -> web.StreamResponse:
        """There are none: what containers may reach beyond each other is not ours to say."""
        for name in ("limit", "from"):
            value = request.query.get(name, "")
            if value and not (value.isascii() and value.isdigit()):
                raise Refusal(500, f"invalid value for '{name}' parameter")
        return answers.text(mapper.encode({"next": 0, "security_groups": []}))

    async def _tag(self, request: web.Request) -> web.StreamResponse:
        body = await read_body(request, "failed reading request body")
        try:
            wanted = msgspec.json.decode(body, type=_Tag)
        except (ValueError, RecursionError) as error:
            raise Refusal(400, f"unmarshal json: {error}") from error
        tag = self._store.tags.get(wanted.id)
        # Only apps have tags here, and those from the policies that name them.
        if tag is None or wanted.type != "app":
            raise Refusal(500, "database create failed")
        return answers.text(mapper.encode(mapper.tag_entry(wanted.id, tag)))

    def _check_ready(self, failed: str) -> None:
        if not self._table.policies_ready:
            raise Refusal(500, failed)
