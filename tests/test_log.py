import json

from router.log import DEBUG, ERROR, Logger


def test_level_of_a_logger_is_that_of_its_whole_family() -> None:
    lines: list[bytes] = []
    root = Logger(level=ERROR, sink=lines.append)
    child = root.child("part").child("detail")
    child.info("unheard")

    root.level = DEBUG
    child.debug("heard", number=1)

    assert [json.loads(line)["message"] for line in lines] == ["heard"]
    assert json.loads(lines[0])["source"] == "gorouter.stdout.part.detail"
    assert child.level == DEBUG


def test_value_that_json_cannot_hold_is_written_as_text() -> None:
    lines: list[bytes] = []
    Logger(sink=lines.append).info("odd", value=object, text="\ud800")

    assert "odd" in json.loads(lines[0])["message"]
