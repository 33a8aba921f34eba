"""A horizontal bar chart as SVG text, readable on light and dark grounds."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_WIDTH = 720
_LABEL_WIDTH = 150
_VALUE_WIDTH = 90
_BAR_HEIGHT = 22
_GAP = 8
_GROUP_GAP = 34
_COLOURS = ("#4c78a8", "#9c755f", "#e4572e", "#72b7b2", "#54a24b")


class Bar(NamedTuple):
    label: str
    value: float


class Group(NamedTuple):
    """Bars under one heading; the same label has the same colour in every group."""

    heading: str
    bars: Sequence[Bar]


def bar_chart(title: str, unit: str, groups: Sequence[Group]) -> str:
    """Draw the groups one below the other on one common scale that starts at zero."""
    labels = list(dict.fromkeys(bar.label for group in groups for bar in group.bars))
    colours = {label: _COLOURS[index % len(_COLOURS)] for index, label in enumerate(labels)}
    greatest = max((bar.value for group in groups for bar in group.bars), default=0.0) or 1.0
    scale = (_WIDTH - _LABEL_WIDTH - _VALUE_WIDTH) / greatest
    body: list[str] = []
    y = 58
    for group in groups:
        body.append(f'<text x="12" y="{y + 4}" font-weight="bold">{escape(group.heading)}</text>')
        y += 16
        for bar in group.bars:
            body += _bar(bar, y, bar.value * scale, colours[bar.label])
            y += _BAR_HEIGHT + _GAP
        y += _GROUP_GAP - _GAP
    return _document(title, unit, y - 8, body)


def _bar(bar: Bar, y: int, width: float, colour: str) -> list[str]:
    middle = y + _BAR_HEIGHT / 2
    end = _LABEL_WIDTH + width + 8
    return [
        f'<text x="{_LABEL_WIDTH - 10}" y="{middle}" text-anchor="end" dominant-baseline="central">'
        f"{escape(bar.label)}</text>",
        f'<rect x="{_LABEL_WIDTH}" y="{y}" width="{width:.1f}" height="{_BAR_HEIGHT}" rx="2" fill="{colour}"/>',
        f'<text x="{end:.1f}" y="{middle}" dominant-baseline="central">{bar.value:.1f}</text>',
    ]


def _document(title: str, unit: str, height: int, body: Sequence[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"'
            f' font-family="system-ui, sans-serif" font-size="13" fill="#333">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
            f'<text x="12" y="24" font-size="16" font-weight="bold">{escape(title)}</text>',
            f'<text x="12" y="42" fill="#777">{escape(unit)}</text>',
            *body,
            "</svg>",
            "",
        ]
    )
