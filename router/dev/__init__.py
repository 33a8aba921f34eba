"""`router dev`: a whole system on one machine, for trying things out and for developing apps against.

``command`` reads the options and decides what can be started; ``stack`` starts, watches and stops it; ``child``
is one process of it, tied to this one by ``tether``; ``samples`` are the apps that announce themselves; ``screen``
is what one sees. ``inside`` says which loopback addresses play containers, ``cell`` is their agent, and ``names``
announces internal names. Nothing here is used in production, and production code uses nothing of it.
"""
