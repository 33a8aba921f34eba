"""TLS towards the platform's own components, which know each other by certificates.

Owns the client's context; does not own connections. Values are PEM text, as the configuration holds them; keys
never touch a disk on their way into OpenSSL.
"""

import os
import ssl


class ClientTlsError(Exception):
    """A certificate or key cannot be used; the text says which and why."""


def client_context(ca_certs: str, cert_chain: str, private_key: str) -> ssl.SSLContext:
    """Return a context that trusts these CAs alone and shows this certificate: TLS 1.2 or later, names checked.

    Raises:
        ClientTlsError: one of the three is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=ca_certs)
    except (ssl.SSLError, ValueError) as error:
        raise ClientTlsError(f"ca_certs: {error}") from error
    try:
        _load_certificate(context, f"{cert_chain}\n{private_key}\n")
    except (ssl.SSLError, ValueError) as error:
        raise ClientTlsError(f"cert_chain and private_key: {error}") from error
    return context


def _load_certificate(context: ssl.SSLContext, pem: str) -> None:
    # OpenSSL's binding reads files only; this one exists in memory alone, and no longer than needed.
    descriptor = os.memfd_create("client", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(pem.encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_no_password)
    finally:
        os.close(descriptor)


def _no_password() -> str:
    raise ValueError("the private key is encrypted")
