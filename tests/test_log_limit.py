from router.log_limit import LogLimit


def test_burst_passes_and_the_rest_is_counted() -> None:
    limit = LogLimit(burst=3, per_second=1.0)

    assert [limit.admit(100.0) for _ in range(5)] == [True, True, True, False, False]
    assert limit.take_suppressed() == 2
    assert limit.take_suppressed() == 0


def test_lines_become_allowed_again_at_the_steady_rate() -> None:
    limit = LogLimit(burst=1, per_second=0.5)
    limit.admit(100.0)

    assert [limit.admit(now) for now in (101.0, 102.0, 103.0, 104.0)] == [False, True, False, True]


def test_silence_saves_up_no_more_than_a_burst() -> None:
    limit = LogLimit(burst=2, per_second=1.0)
    limit.admit(0.0)

    assert [limit.admit(1000.0) for _ in range(3)] == [True, True, False]
