"""Why a connection failed, in words for a log line: no numbers, no places in OpenSSL's sources, no line breaks."""

import os
import ssl

MOST_CHARS = 300


def reason_of(error: BaseException) -> str:
    """Return what an error says, on one line; its class's name if it says nothing."""
    return one_line(_words(error)) or type(error).__name__


def one_line(text: str) -> str:
    """Return a text that may stand in a log: one line, nothing a terminal would obey, `MOST_CHARS` at most."""
    line = " ".join(text.split())
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)[:MOST_CHARS]


def _words(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ")
    if isinstance(error, OSError) and error.errno:
        # The event loop puts addresses into a refused connection's text. Numbers below zero are the resolver's.
        return os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
    return str(error)
