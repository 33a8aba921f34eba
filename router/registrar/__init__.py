"""Announcing routes: ``announcer`` is the library, ``register`` the command on top of it.

Beneath them ``schedule`` says when each route is due, ``rules`` what an announcement must look like, and ``bus``
keeps a NATS connection up.
"""
