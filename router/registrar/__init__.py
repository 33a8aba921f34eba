"""Announcing routes: the library, and what `router register` does with it.

    from router.registrar import Announcer, Route

    async with Announcer(nats="nats://127.0.0.1:4222") as announcer:
        await announcer.announce(Route(host="10.0.0.7", port=9000, uris=["app.example.com"]))
        await serve_until_told_to_stop()

A `Route` is what clients outside reach, with the attributes of the message on the wire; an `InternalRoute` gives
names to a container's address, for other containers alone. Needs nats-py and msgspec, and little of the router.

Beneath: ``announcer`` keeps the promise, ``announced`` holds one route's words, ``dialect`` the subjects,
``schedule`` says when each route is due, ``rules`` what an announcement must look like, and ``bus`` keeps a NATS
connection up.
"""

from router.registrar.address import own_address
from router.registrar.announced import Announced, AnnouncementError, AnyRoute
from router.registrar.announcer import Announcer
from router.registrar.bus import BusUnavailable
from router.registrar.observer import Observer
from router.registrar.tls_files import TlsFiles
from router.wire.announcement import Announcement as Route
from router.wire.announcement import PoolSettings, RouterStart
from router.wire.discovery import NameRegistration as InternalRoute

__all__ = [
    "Announced",
    "AnnouncementError",
    "Announcer",
    "AnyRoute",
    "BusUnavailable",
    "InternalRoute",
    "Observer",
    "PoolSettings",
    "Route",
    "RouterStart",
    "TlsFiles",
    "own_address",
]
