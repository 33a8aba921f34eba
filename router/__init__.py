"""router: an HTTP routing tier whose routes are announced over NATS.

The folders read in the order in which a request travels; ``docs/architecture.md`` draws the map.
"""

__version__ = "0.1.0"
