import pytest
from prometheus_client.parser import text_string_to_metric_families

from router.control.exposition import COUNTER, GAUGE, Family, histogram, metric_name, render


def test_families_are_written_in_the_order_of_their_names_with_their_own_names() -> None:
    families = [
        Family("total_requests", COUNTER, "Attempts.", [("", (("component", "a"),), 3.0)]),
        Family("bad_gateways", COUNTER, "Failures.", [("", (), 0.0)]),
    ]

    assert render(families) == (
        b"# HELP bad_gateways Failures.\n# TYPE bad_gateways counter\nbad_gateways 0\n"
        b'# HELP total_requests Attempts.\n# TYPE total_requests counter\ntotal_requests{component="a"} 3\n'
    )


def test_family_without_samples_is_not_mentioned() -> None:
    assert render([Family("responses", COUNTER, "None.", [])]) == b""


@pytest.mark.parametrize("value", ['quote "', "back\\slash", "line\nend", "ünïcode", ""])
def test_label_values_survive_a_parser(value: str) -> None:
    text = render([Family("a", GAUGE, "A.", [("", (("b", value),), 1.0)])]).decode()
    [family] = text_string_to_metric_families(text)

    assert family.samples[0].labels == {"b": value}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (2.5, "2.5"),
        (1e6, "1000000"),
        (1e300, "1e+300"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
        (float("nan"), "NaN"),
    ],
)
def test_numbers_are_written_as_prometheus_reads_them(value: float, text: str) -> None:
    assert render([Family("a", GAUGE, "A.", [("", (), value)])]).splitlines()[-1] == f"a {text}".encode()


def test_buckets_hold_everything_up_to_their_bound() -> None:
    samples = histogram([("component", "a")], {"1.0": 2, "4.0": 1, "inf": 1, "sum": 9.5}, [1, 2, 4])

    assert [(suffix, dict(labels).get("le"), value) for suffix, labels, value in samples] == [
        ("_bucket", "1", 2),
        ("_bucket", "2", 2),
        ("_bucket", "4", 3),
        ("_bucket", "+Inf", 4),
        ("_sum", None, 9.5),
        ("_count", None, 4),
    ]


def test_counts_of_other_bounds_go_to_the_bucket_that_surely_holds_them() -> None:
    samples = histogram([], {"1.0": 2, "3.0": 1, "sum": 1.0}, [2, float("inf"), 5])

    assert [value for suffix, _, value in samples if suffix == "_bucket"] == [2, 3, 3]


def test_name_has_only_what_names_may_have() -> None:
    assert metric_name("router_dns answers/s") == "router_dns_answers_s"
