"""What the log says of clients whose TLS handshake came to nothing.

Owns the words, and which failures operators have to see; does not own the handshake (`tls_stream`). One law: any
client can provoke these lines, so those that are not for debugging come at a limited rate.
"""

import ssl
from collections.abc import Callable
from time import monotonic

from router.log import Logger
from router.log_limit import LogLimit
from router.tls_stream import CertificateRefused

_NO_CERTIFICATE = "PEER_DID_NOT_RETURN_A_CERTIFICATE"
"""OpenSSL's reason."""


class HandshakeLog:
    """One for all TLS listeners of a worker.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, logger: Logger, clock: Callable[[], float] = monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._limit = LogLimit()

    def failed(self, client: tuple[str, int] | None, server_name: str, error: BaseException) -> None:
        """A handshake has failed.

        Refused certificates are told at level info: whoever rolls out certificates or CAs looks for them, and the
        clients often see no more than a closed connection. All else is for debugging: mostly scanners' noise.

        Args:
            client: address and port; None if they cannot be known any more, after a reset.
            server_name: that the client asked for, as far as it is known; else empty.
        """
        address = _address(client)
        if not is_about_certificate(error):
            self._logger.debug("tls-handshake-failed", client=address, server_name=server_name, error=str(error))
        elif self._limit.admit(self._clock()):
            self._logger.info(
                "client-certificate-refused",
                client=address,
                server_name=server_name,
                error=str(error),
                suppressed=self._limit.take_suppressed(),
            )


def is_about_certificate(error: BaseException) -> bool:
    """Tell whether it was the client's certificate, or the lack of one, that ended a handshake."""
    if isinstance(error, ssl.SSLCertVerificationError | CertificateRefused):
        return True
    return isinstance(error, ssl.SSLError) and _NO_CERTIFICATE in str(error)


def _address(client: tuple[str, int] | None) -> str:
    if client is None:
        return ""
    ip, port = client
    # The listeners take IPv4 on sockets of IPv6, where the kernel writes its addresses in another way.
    ip = ip.removeprefix("::ffff:")
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
