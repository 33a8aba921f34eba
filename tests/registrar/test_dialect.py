"""How often an announcer speaks in each family of subjects."""

from router.registrar.dialect import INTERNAL, PUBLIC, Dialect
from router.wire.announcement import RouterStart
from router.wire.discovery import DiscoveryStart, encode_start


def wants(minimum_s: int, prune_s: int = 0) -> RouterStart:
    return RouterStart(id="0-x", hosts=[], minimum_register_interval_s=minimum_s, prune_threshold_s=prune_s)


def test_defaults_are_those_of_cloud_foundry() -> None:
    assert (Dialect(PUBLIC, "", None).interval_s, Dialect(INTERNAL, "", None).interval_s) == (20.0, 60.0)


def test_router_is_obeyed_unless_the_interval_is_fixed() -> None:
    free, fixed = Dialect(PUBLIC, "", None), Dialect(PUBLIC, "", 9.0)
    for dialect in (free, fixed):
        dialect.obey(wants(7))
    assert (free.interval_s, fixed.interval_s) == (7.0, 9.0)


def test_router_that_wants_nothing_gets_the_default_of_the_family() -> None:
    internal = Dialect(INTERNAL, "", None)
    internal.obey(wants(0))
    assert internal.interval_s == 60.0


def test_start_of_internal_routing_is_read_like_that_of_routes() -> None:
    start = DiscoveryStart(id="0-x", host="10.0.0.1", minimum_register_interval_s=30, prune_threshold_s=90)
    assert INTERNAL.decode_start(encode_start(start)) == RouterStart(
        id="0-x", hosts=["10.0.0.1"], minimum_register_interval_s=30, prune_threshold_s=90
    )
