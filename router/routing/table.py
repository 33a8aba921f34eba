"""The route table a worker looks requests up in: host and path to pool (GOROUTER.md §4.1, 4.2).

Owns the shape of the table; does not own what is in a pool. One law: a look-up touches only nodes of the request's
own host and of wildcards above it, so its cost does not grow with the number of routes.

Keys are lower-case ``host/path`` text without a trailing slash, as `routing.routekey` makes them.
"""

from router.routing.pool import Pool


class _Host:
    """What is registered under one host: a pool for the whole host and pools for context paths."""

    __slots__ = ("depth", "paths", "root")

    def __init__(self) -> None:
        self.root: Pool | None = None
        self.paths: dict[bytes, Pool] | None = None
        self.depth = 0
        """Segments of the longest context path: further ones of a request need not be looked at."""

    def lookup(self, path: bytes) -> Pool | None:
        """Return the pool of the longest context path with endpoints, else the deepest empty one, else None."""
        if self.paths is None:
            return self.root
        empty: Pool | None = None
        text = path.partition(b"?")[0].lower().removesuffix(b"/")
        segments = text[1:].split(b"/", self.depth) if text else []
        for count in range(min(len(segments), self.depth), 0, -1):
            pool = self.paths.get(b"/".join(segments[:count]))
            if pool is not None:
                if pool.endpoints:
                    return pool
                empty = empty or pool
        if self.root is not None and (self.root.endpoints or empty is None):
            return self.root
        return empty


class RouteTable:
    """Maps hosts and paths to pools.

    A host without context paths, as most are, maps to its pool directly: one object less per route.
    """

    def __init__(self) -> None:
        self._hosts: dict[bytes, Pool | _Host] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def pool(self, key: str) -> Pool | None:
        """Return the pool registered under exactly this route key."""
        host, path = _split(key)
        node = self._hosts.get(host)
        if isinstance(node, _Host):
            return node.root if path is None else (node.paths or {}).get(path)
        return node if path is None else None

    def pools(self) -> list[Pool]:
        """Return all pools, in no particular order."""
        found: list[Pool] = []
        for node in self._hosts.values():
            if isinstance(node, _Host):
                found += [node.root] if node.root is not None else []
                found += (node.paths or {}).values()
            else:
                found.append(node)
        return found

    def add(self, pool: Pool) -> None:
        """Enter a pool under its key, in place of any other there."""
        if self.pool(pool.key) is None:
            self._size += 1
        host, path = _split(pool.key)
        node = self._hosts.get(host)
        if path is None and not isinstance(node, _Host):
            self._hosts[host] = pool
            return
        if not isinstance(node, _Host):
            root, node = node, _Host()
            node.root = root
            self._hosts[host] = node
        if path is None:
            node.root = pool
            return
        if node.paths is None:
            node.paths = {}
        node.paths[path] = pool
        node.depth = max(node.depth, path.count(b"/") + 1)

    def remove(self, key: str) -> Pool | None:
        """Take out the pool of a key and return it."""
        pool = self.pool(key)
        if pool is None:
            return None
        self._size -= 1
        host, path = _split(key)
        node = self._hosts[host]
        if not isinstance(node, _Host):
            del self._hosts[host]
            return pool
        if path is None:
            node.root = None
        elif node.paths is not None:
            del node.paths[path]
        if not node.paths:
            if node.root is None:
                del self._hosts[host]
            else:
                self._hosts[host] = node.root
        return pool

    def lookup(self, host: bytes, path: bytes) -> Pool | None:
        """Find the pool of a request, or None.

        Args:
            host: the Host field as received; the port is ignored.
            path: path and query as received; neither decoded nor normalised.

        An exact host comes first, even if its pool is empty; then wildcards, the nearest first, which stand for
        one or more labels. Wildcards are sought in the host alone: Gorouter goes on into the path, so that a
        request for ``unknown.example/x.test`` reaches the app on ``*.test``.
        """
        host = host.partition(b":")[0].lower()
        node = self._hosts.get(host)
        if node is not None:
            pool = node.lookup(path) if isinstance(node, _Host) else node
            if pool is not None:
                return pool
        dot = host.find(b".")
        while dot >= 0:
            node = self._hosts.get(b"*" + host[dot:])
            if node is not None:
                pool = node.lookup(path) if isinstance(node, _Host) else node
                if pool is not None:
                    return pool
            dot = host.find(b".", dot + 1)
        return None


def _split(key: str) -> tuple[bytes, bytes | None]:
    """Return host and context path; ``foo.com//`` has an empty path, which is not the same as none."""
    host, slash, path = key.encode("utf-8", "surrogateescape").partition(b"/")
    return host, path if slash else None
