"""Files with routes that come, change and go."""

import json
import os
from pathlib import Path
from typing import Any

from router.registrar.route_files import Look, RouteFiles
from router.registrar.service_config import Defaults

DEFAULTS = Defaults("10.0.0.1", "", "id")


def write(file: Path, *names: str, **changes: Any) -> None:
    write_entries(file, *(entry(name, **changes) for name in names))


def write_entries(file: Path, *entries: dict[str, Any]) -> None:
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"routes": entries}))
    os.replace(new, file)


def entry(name: str, /, **changes: Any) -> dict[str, Any]:
    return {"name": name, "port": 80, "uris": [f"{name}.test"], "registration_interval": "10s", **changes}


def names(files: RouteFiles) -> dict[str, list[str]]:
    look = files.look()
    assert (look.problems, look.notes) == ([], [])
    return {file.name: [route.name for route in routes] for file, routes in look.routes.items()}


def test_files_come_change_and_go(tmp_path: Path) -> None:
    files = RouteFiles([f"{tmp_path}/*.yml", f"{tmp_path}/**/*.json"], DEFAULTS)
    assert names(files) == {}
    write(tmp_path / "a.yml", "a")
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub" / "b.json", "b", "c")
    assert names(files) == {"a.yml": ["a"], "b.json": ["b", "c"]}
    write(tmp_path / "a.yml", "z")
    (tmp_path / "sub" / "b.json").unlink()
    assert names(files) == {"a.yml": ["z"]}


def test_defaults_hold_for_dynamic_routes(tmp_path: Path) -> None:
    write(tmp_path / "a.yml", "a")
    (route,) = RouteFiles([f"{tmp_path}/*"], DEFAULTS).look().routes[tmp_path / "a.yml"]
    assert getattr(route.route, "host", "") == "10.0.0.1"


def test_file_matched_twice_counts_once(tmp_path: Path) -> None:
    write(tmp_path / "a.yml", "a")
    files = RouteFiles([f"{tmp_path}/*.yml", f"{tmp_path}/a.*"], DEFAULTS)
    assert names(files) == {"a.yml": ["a"]}


def test_mistakes_are_told_once_until_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "a.yml"
    files = RouteFiles([str(file)], DEFAULTS)
    file.write_text("routes: [{name: bad}]")
    assert len(files.look().problems) == 3
    assert files.look().problems == []
    file.write_text("{")
    (problem,) = files.look().problems
    assert problem.startswith(f"{file}: ")
    write(file, "a")
    assert names(files) == {"a.yml": ["a"]}


def test_folder_that_matches_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "folder.yml").mkdir()
    assert names(RouteFiles([f"{tmp_path}/*.yml"], DEFAULTS)) == {}


def test_file_that_cannot_be_read_leaves_what_it_held_until_it_can_or_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "a.yml"
    files = RouteFiles([str(file)], DEFAULTS)
    write(file, "a", "b")
    files.look()
    file.write_text('{"routes": [')
    look = files.look()
    assert len(look.problems) == 1
    assert [route.name for route in look.routes[file]] == ["a", "b"]
    write(file, "b")
    assert names(files) == {"a.yml": ["b"]}
    file.unlink()
    assert names(files) == {}


def test_successor_reads_everything_anew_and_knows_what_it_was(tmp_path: Path) -> None:
    good, bad = tmp_path / "a.yml", tmp_path / "b.yml"
    write(good, "a")
    write(bad, "b")
    files = RouteFiles([f"{tmp_path}/*.yml"], DEFAULTS)
    files.look()
    bad.write_text("{")
    look = files.successor([f"{tmp_path}/*.yml"], Defaults("10.0.0.2", "z1", "id")).look()
    assert [getattr(route.route, "host", "") for route in look.routes[good]] == ["10.0.0.2"]
    assert [route.name for route in look.routes[bad]] == ["b"]
    assert len(look.problems) == 1


def held(look: Look, file: Path) -> dict[str, list[str]]:
    return {route.name: getattr(route.route, "uris", []) for route in look.routes[file]}


def test_file_with_a_malformed_entry_takes_nothing_away_and_gives_what_is_good(tmp_path: Path) -> None:
    file = tmp_path / "a.yml"
    files = RouteFiles([str(file)], DEFAULTS)
    write(file, "same", "changed", "broken", "nameless", "deleted")
    before = files.look().routes[file]
    good = [entry("same"), entry("changed", uris=["other.test"]), entry("new")]
    write_entries(file, *good, entry("broken", port="http"), {"nam": "nameless"})
    look = files.look()
    assert held(look, file) == {
        "same": ["same.test"],
        "changed": ["other.test"],
        "new": ["new.test"],
        "broken": ["broken.test"],
        "nameless": ["nameless.test"],
        "deleted": ["deleted.test"],
    }
    assert look.routes[file][3:] == before[2:], "equal in all, so that nobody touches them"
    assert look.problems
    assert look.notes[-1] == f"{file}: until that is mended, these go on as they were: broken, nameless, deleted"
    assert (files.look().problems, files.look().notes) == ([], []), "told once"
    write_entries(file, entry("same"), entry("worse", port=0))
    assert list(held(files.look(), file)) == ["same", "changed", "new", "broken", "nameless", "deleted"]
    write(file, "same", "broken")
    assert names(files) == {"a.yml": ["same", "broken"]}


def test_route_that_moved_out_of_a_file_with_a_mistake_is_there_once(tmp_path: Path) -> None:
    old, new = tmp_path / "a.yml", tmp_path / "b.yml"
    files = RouteFiles([f"{tmp_path}/*.yml"], DEFAULTS)
    write(old, "moved", "broken")
    files.look()
    write_entries(old, entry("broken", port=0))
    write(new, "moved")
    look = files.look()
    assert [list(held(look, file)) for file in (old, new)] == [["broken"], ["moved"]]


def test_malformed_entry_that_was_never_good_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "a.yml"
    files = RouteFiles([str(file)], DEFAULTS)
    write_entries(file, entry("good"), entry("broken", port=0))
    look = files.look()
    assert (list(held(look, file)), look.notes) == (["good"], [])
    file.unlink()
    assert files.look().routes == {}
