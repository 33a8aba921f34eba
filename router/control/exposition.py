"""The text that a Prometheus server reads: families of samples to bytes (exposition format 0.0.4).

Owns the format. It is written here because prometheus-client appends ``_total`` to the names of all counters, and
Gorouter's, which dashboards ask for, do not have it.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, isnan

from router.metrics import INFINITY, SUM

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"

Labels = Iterable[tuple[str, str]]
Sample = tuple[str, Labels, float]
"""Suffix of the family's name, labels, value."""

_NOT_IN_NAMES = re.compile("[^a-zA-Z0-9_:]")


@dataclass(frozen=True, slots=True)
class Family:
    """All samples of one metric."""

    name: str
    kind: str
    text: str
    samples: Sequence[Sample]


def render(families: Iterable[Family]) -> bytes:
    """Return the families in the order of their names, those without samples left out."""
    lines: list[str] = []
    for family in sorted(families, key=lambda family: family.name):
        if not family.samples:
            continue
        lines.append(f"# HELP {family.name} {family.text}\n# TYPE {family.name} {family.kind}\n")
        lines += (
            f"{family.name}{suffix}{_labels(labels)} {_number(value)}\n"
            for suffix, labels, value in family.samples
        )
    return "".join(lines).encode()


def histogram(
    labels: Sequence[tuple[str, str]], parts: Mapping[str, float], bounds: Sequence[float]
) -> list[Sample]:
    """Return the samples of one histogram.

    Args:
        parts: counts by the upper bound of the bucket they are in, and the sum (`metrics.Histogram.figures`).
            Bounds may be others than are shown: a worker from before a reload had them.
        bounds: to show, without the last one.
    """
    shown = sorted(set(bounds) - {INFINITY})
    counts = [0.0] * (len(shown) + 1)
    for part, count in parts.items():
        if part != SUM:
            counts[bisect_left(shown, float(part))] += count
    samples: list[Sample] = []
    seen = 0.0
    for bound, count in zip((*shown, INFINITY), counts, strict=True):
        seen += count
        samples.append(("_bucket", (*labels, ("le", _number(bound))), seen))
    return [*samples, ("_sum", labels, parts.get(SUM, 0.0)), ("_count", labels, seen)]


def metric_name(text: str) -> str:
    """Return a text with everything replaced that may not be in the name of a metric."""
    return _NOT_IN_NAMES.sub("_", text)


def _labels(labels: Labels) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if not isfinite(value):
        return "NaN" if isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(float(value))
