from xml.etree import ElementTree

from loadtest.chart import Bar, Group, bar_chart

SVG = "{http://www.w3.org/2000/svg}"
GROUPS = [Group("HTTP", [Bar("nginx", 20.0), Bar("router", 40.0)]), Group("HTTPS", [Bar("nginx", 30.0)])]


def test_bars_are_as_long_as_their_values() -> None:
    drawing = ElementTree.fromstring(bar_chart("Title", "µs", GROUPS))
    widths = [float(bar.attrib["width"]) for bar in drawing.iter(f"{SVG}rect")][1:]
    assert widths[0] * 2 == widths[1]
    assert widths[0] * 1.5 == widths[2]


def test_a_label_keeps_its_colour_in_every_group() -> None:
    drawing = ElementTree.fromstring(bar_chart("Title", "µs", GROUPS))
    colours = [bar.attrib["fill"] for bar in drawing.iter(f"{SVG}rect")][1:]
    assert colours[0] == colours[2] != colours[1]


def test_texts_are_escaped() -> None:
    drawing = ElementTree.fromstring(bar_chart("a < b & c", "µs", [Group("<>", [Bar("&", 1.0)])]))
    texts = [text.text for text in drawing.iter(f"{SVG}text")]
    assert {"a < b & c", "<>", "&"} <= set(texts)


def test_chart_of_nothing_is_still_a_chart() -> None:
    assert ElementTree.fromstring(bar_chart("Title", "µs", [])).tag == f"{SVG}svg"


def test_bars_of_no_length_are_drawn() -> None:
    assert ElementTree.fromstring(bar_chart("Title", "µs", [Group("HTTP", [Bar("nginx", 0.0)])])) is not None
