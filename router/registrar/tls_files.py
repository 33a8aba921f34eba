"""TLS to NATS by files that are replaced while the announcer runs.

A certificate that is valid for a day is rotated many times in the life of one announcer. The files are read again
for every connection, so the next one shows the new certificate; a connection that is up outlives the old one.
"""

import contextlib
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TlsFiles:
    """PEM files; called, it makes a context of what they hold at that moment. For ``Announcer(tls=…)``."""

    ca: Path | str | None = None
    """Who may have issued the server's certificate; None trusts whom the system trusts."""
    certificate: Path | str | None = None
    """The announcer's own, with its chain, for servers that verify their clients."""
    key: Path | str | None = None
    """Of the certificate; None if it is in the same file. It must not be encrypted."""

    def __call__(self) -> ssl.SSLContext:
        """Return a new context. Raises `ValueError` naming the file that cannot be used, and why."""
        with _naming(self.ca):
            context = ssl.create_default_context(cafile=self.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate is not None:
            with _naming(self.certificate, self.key):
                context.load_cert_chain(self.certificate, self.key, password=_no_password)
        return context


@contextlib.contextmanager
def _naming(*files: Path | str | None) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        of_system = isinstance(error, OSError) and not isinstance(error, ssl.SSLError)
        reason = os.strerror(error.errno or 0) if of_system and isinstance(error, OSError) else str(error)
        raise ValueError(f"{', '.join(str(file) for file in files if file is not None)}: {reason}") from error


def _no_password() -> str:
    raise ValueError("the private key is encrypted")
