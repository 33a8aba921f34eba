import ast
import inspect

import router.backend.failure as failures
from router.backend.failure import FailureClass
from router.metrics import DENIAL_REASONS, Counters
from router.proxy import caller, internal


def test_all_counters_begin_at_zero_and_are_told_by_name() -> None:
    counts = Counters().as_dict()

    assert set(counts.values()) == {0}
    assert {"requests", "bad_gateways", "responses_2xx", "responses_5xx", "responses_xxx"} <= set(counts)
    assert "responses" not in counts


def test_responses_are_told_by_their_first_digit() -> None:
    counters = Counters()
    counters.responses[2] = 3
    counters.responses[0] = 1

    assert (counters.as_dict()["responses_2xx"], counters.as_dict()["responses_xxx"]) == (3, 1)


def test_every_failure_class_counts_what_exists() -> None:
    classes = [each for each in vars(failures).values() if isinstance(each, FailureClass)]
    counters = Counters()
    for each in classes:
        counters.add(each.counter)

    assert sum(counters.as_dict().values()) == sum(bool(each.counter) for each in classes)


def test_empty_name_counts_nothing() -> None:
    counters = Counters()
    counters.add("")

    assert set(counters.as_dict().values()) == {0}


def test_denials_are_told_by_their_reason() -> None:
    counters = Counters()
    counters.internal_denied["no-policy"] = 2

    assert counters.as_dict()["internal_denials_no_policy"] == 2
    assert "internal_denied" not in counters.as_dict()


def test_every_reason_a_caller_is_refused_for_is_counted_from_the_start() -> None:
    calls = [
        call
        for module in (caller, internal)
        for call in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(call, ast.Call)
    ]
    refusals = [call for call in calls if ast.unparse(call.func) in ("UnknownCaller", "self._deny")]
    reasons = {call.args[-1].value for call in refusals if isinstance(call.args[-1], ast.Constant)}

    assert reasons == set(DENIAL_REASONS)
