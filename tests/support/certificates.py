"""SSL contexts for test servers and clients, from certificates made by `router.certs`."""

import ssl
import tempfile
from pathlib import Path

from router.certs import Authority, Pair


def server_context(pair: Pair, directory: Path) -> ssl.SSLContext:
    """Return a context that serves with this certificate; the files it is loaded from go into the directory."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, pair, directory)
    return context


def client_context(
    authority: Authority, *, identity: Pair | None = None, directory: Path | None = None
) -> ssl.SSLContext:
    """Return a context that trusts the authority alone, and shows the identity if there is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.pair.certificate)
    if identity is not None and directory is not None:
        _load(context, identity, directory)
    return context


def shake_hands(
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    name: str | None,
    session: ssl.SSLSession | None = None,
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Shake hands in memory; return both sides, the server's first. Raises `ssl.SSLError` of whichever refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = client.wrap_bio(to_client, to_server, server_hostname=name, session=session)
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (theirs, ours, theirs, ours, theirs):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return ours, theirs


def _load(context: ssl.SSLContext, pair: Pair, directory: Path) -> None:
    # The ssl module loads certificates from files only.
    with tempfile.NamedTemporaryFile("w", dir=directory, suffix=".pem") as file:
        file.write(pair.certificate + pair.private_key)
        file.flush()
        context.load_cert_chain(file.name)
