"""How a registered uri becomes the key of a route.

Owns the normal form that registrations and lookups share. One law: two uris that must reach the same pool have
the same key, and a key is never parsed again, only compared.
"""


def split_uri(uri: str) -> tuple[str, str]:
    """Return the route key of a registered uri and its context path.

    The key is the uri in lower case, host *and* path, cut at the first ``?``, without one trailing and one
    leading ``/``; nothing is percent-decoded and a port in it is just text, as in Gorouter. The context path keeps
    its case and is ``/`` if there is none; it becomes the Path of sticky cookies.
    """
    text = uri.partition("?")[0].removeprefix("/")
    path = text.partition("/")[2]
    return text.removesuffix("/").lower(), "/" + path
