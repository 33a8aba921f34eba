from router.control.health import Health, State


def test_health_goes_from_initializing_over_healthy_to_degraded_and_tells_each_step() -> None:
    told: list[bool] = []
    health = Health(told.append)
    assert not health.healthy

    health.enter(State.HEALTHY)
    assert health.healthy
    health.enter(State.DEGRADED)

    assert not health.healthy
    assert told == [True, False]


def test_degraded_is_the_end() -> None:
    told: list[bool] = []
    health = Health(told.append)
    health.enter(State.DEGRADED)
    health.enter(State.HEALTHY)
    health.enter(State.INITIALIZING)

    assert health.state is State.DEGRADED
    assert told == [False]


def test_entering_the_present_state_tells_nothing() -> None:
    told: list[bool] = []
    health = Health(told.append)
    health.enter(State.HEALTHY)
    health.enter(State.HEALTHY)

    assert told == [True]
