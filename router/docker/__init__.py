"""`router docker`: containers of a Docker or Podman engine announce themselves.

On the way from the engine to the routers: ``engine`` talks to it, ``container`` reads what it says of one
container, ``labels`` what the container's labels ask for, ``offer`` decides from both what is announced, ``watch``
follows the engine's events, and ``speaker`` says it over NATS. ``settings`` is the configuration, ``switch`` the
command that turns routes off and on, ``run`` the process.
"""
