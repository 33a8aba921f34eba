"""Files with routes that come, change and go."""

import json
import os
from pathlib import Path
from typing import Any

from router.registrar.route_files import RouteFiles
from router.registrar.service_config import Defaults

DEFAULTS = Defaults("10.0.0.1", "", "id")


def write(file: Path, *names: str, **changes: Any) -> None:
    routes = [
        {"name": name, "port": 80, "uris": [f"{name}.test"], "registration_interval": "10s", **changes}
        for name in names
    ]
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"routes": routes}))
    os.replace(new, file)


def names(files: RouteFiles) -> dict[str, list[str]]:
    look = files.look()
    assert look.problems == []
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
