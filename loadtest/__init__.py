"""Load tests: what a request costs here and in other proxies, and whether the router keeps its promised limits.

Owns the programs under load, the clients and the reading of ``/proc``; imports nothing of ``router``, which is
started from its command line like every other proxy. One law: nothing is measured on a run with a failed request.

``python -m loadtest`` compares the proxies; ``registrations``, ``scale`` and ``transfer`` check the limits.
"""
