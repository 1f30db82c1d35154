"""What no committed file may be or hold."""

from __future__ import annotations

import os
import re
import sys
import tomllib

import pytest

from tests.architecture.house import ROOT, files, texts
from tools import pins

LONGEST = 400  # lines
CODE = ("torpor", "flows", "tasks")
HOSTS = re.compile(r"(pypi|pythonh[o]sted|npmjs|debian|conda\.anaconda|crates)[.](org|io)\b", re.IGNORECASE)
UNDONE = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplemented(Error)?)\b")
SKIPS = re.compile(r"pytest\.(skip|xfail|importorskip)\b|mark\.(skip|skipif|xfail)\b|unittest\.skip")
SLEEPS = re.compile(r"\btime\.sleep\(|from time import .*\bsleep\b")


def _lines(pattern: re.Pattern[str], *below: str) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()}"
        for path, text in texts(*below)
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_long_files() -> None:
    sizes = {path: text.count("\n") for path, text in texts() if path.endswith(".py")}
    assert len(sizes) > 20
    assert {path: size for path, size in sizes.items() if size > LONGEST} == {}


def test_no_registry_is_named() -> None:
    assert _lines(HOSTS) == []


def test_no_path_of_this_machine_is_named() -> None:
    here = {str(ROOT), sys.prefix, os.path.expanduser("~")} - {"/"}
    pattern = re.compile("|".join(rf"{re.escape(path)}(?![\w-])" for path in sorted(here)) + r"|/home/\w+/|/Users/\w+/")
    assert _lines(pattern) == []


def test_code_is_finished() -> None:
    assert _lines(UNDONE, *CODE) == []


def test_tests_do_not_skip() -> None:
    """One place skips, for one reason: tests/conftest.py, for want of a GPU."""
    found = [line for line in _lines(SKIPS, "tests", "torpor/testing") if not line.startswith("tests/conftest.py:")]
    assert found == []


def test_tests_do_not_sleep() -> None:
    """They wait for a condition, with a bound."""
    assert _lines(SLEEPS, "tests", "torpor/testing") == []


def test_pins_are_names_and_versions() -> None:
    pin = re.compile(r"[a-z0-9][a-z0-9-]*==[0-9][0-9a-z.]*( ; [a-z_]+ .+)?")
    assert [line for line in pins.written() if not pin.fullmatch(line)] == []


def test_pins_of_pip_and_uv_agree() -> None:
    assert pins.written() == pins.declared()


def test_every_dependency_is_pinned() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [data["project"]["dependencies"], *data["project"].get("optional-dependencies", {}).values()]
    groups += [data["build-system"]["requires"], *data["dependency-groups"].values()]
    wanted = {re.split(r"[^\w.-]", line)[0].lower().replace(".", "-").replace("_", "-") for group in groups for line in group}
    assert wanted - {line.split("==")[0] for line in pins.written()} == set()


def test_scripts_are_plain_sh() -> None:
    for script in (ROOT / "dev", ROOT / ".ci/run"):
        assert script.read_text().startswith("#!/bin/sh\n")
        assert os.access(script, os.X_OK)


@pytest.mark.parametrize("folder", [*CODE, "benchmarks", "tests", "tools"])
def test_names_do_not_hide_the_standard_library(folder: str) -> None:
    """flows/sched.py once hid `sched`: a worker may put a flow's folder on the path."""
    hidden = {file.stem for file in files(folder) if file.suffix == ".py" and file.parent == ROOT / folder}
    assert hidden & sys.stdlib_module_names == set()
