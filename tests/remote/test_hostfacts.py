"""What a host is: asked of this computer, and told by hosts that are not here."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path

import pytest

from tests.remote.bare import Bare
from torpor.errors import HostFailed, NoSpace, TorporError, UsageError
from torpor.remote.bootstrap import ask
from torpor.remote.hostfacts import Facts, NoPython, Python, Unsuitable, parse, question

LINE = "torpor:python\t{path}\t{version}\t{implementation}\t{flags}\t{wide}\t{libc}\t{lacking}"


def python(path: str = "/usr/bin/python3", version: str = "3.11.2", **more: str) -> str:
    usual = {"implementation": "cpython", "flags": "", "wide": "1", "libc": "glibc 2.36", "lacking": ""}
    return LINE.format(path=path, version=version, **{**usual, **more})


def told(*lines: str, **more: str) -> bytes:
    usual = {
        "home": "/home",
        "base": "/home/.torpor/engines",
        "uid": "0",
        "architecture": "x86_64",
        "free": "5000000000",
        "boot": "a",
    }
    return "\n".join([*(f"torpor:{key}\t{value}" for key, value in {**usual, **more}.items()), *lines, "torpor:end\there"]).encode()


def test_this_computer(bare: Bare) -> None:
    facts = ask(bare)
    assert (facts.home, facts.base) == (str(bare.home), str(bare.base))
    assert facts.architecture == platform.machine()
    assert facts.root == (os.geteuid() == 0)
    assert facts.free > 0
    assert facts.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert (facts.engines, facts.refused, facts.rental) == ({}, "", "")
    chosen = facts.python(sys.version_info[:2])
    assert chosen.minor == sys.version_info[:2]
    assert chosen.glibc >= (2, 17)


def test_what_a_login_prints_does_no_harm() -> None:
    facts = parse(b"Welcome to vast.ai\xff\n" + told(python()) + b"\nlogout\n")
    assert facts.python((3, 11)).path == "/usr/bin/python3"


@pytest.mark.parametrize(
    "answer", [b"", b"This account is currently not available.\n", told()[:-5], told(base="relative"), b"torpor:end\there\n"]
)
def test_no_answer_is_told(answer: bytes) -> None:
    with pytest.raises(HostFailed, match="POSIX shell"):
        parse(answer)


def test_the_preferred_version_goes_before_the_newest() -> None:
    found = [python("/opt/conda/bin/python3.13", "3.13.1"), python(), python("/usr/local/bin/python3.12", "3.12.4")]
    facts = parse(told(*found))
    assert facts.python((3, 11)).version == (3, 11, 2)
    assert facts.python((3, 10)).version == (3, 13, 1)


NO_PYTHON: dict[str, tuple[list[str], str]] = {
    "none": ([], "none was found"),
    "old": ([python(version="3.9.2")], "3.9.2, too old"),
    "too new": ([python(version="3.99.0")], "newer than torpor knows"),
    "minimal": ([python(lacking="_ctypes _ssl")], "without _ctypes, _ssl"),
    "free-threaded": ([python(version="3.13.0", flags="t")], "cpython t, and no ordinary CPython"),
    "PyPy": ([python(implementation="pypy")], "pypy, and no ordinary"),
    "32 bits": ([python(wide="0")], "a 32-bit program"),
    "nonsense": ([python(version="3.x.1"), python(path="relative")], "none was found"),
}


@pytest.mark.parametrize("kind", NO_PYTHON)
def test_no_python(kind: str) -> None:
    lines, words = NO_PYTHON[kind]
    with pytest.raises(NoPython, match=re.escape(words)) as caught:
        parse(told(*lines)).python((3, 11))
    assert "apt-get install python3" in caught.value.remedy


UNSUITABLE: dict[str, tuple[bytes, str]] = {
    "musl": (told(python(libc="")), "musl"),
    "old glibc": (told(python(libc="glibc 2.12")), "glibc 2.12"),
    "processor": (told(python(), architecture="riscv64"), "riscv64"),
    "read-only": (told(python(), refused="mkdir: cannot create directory: Read-only file system"), "Read-only file system"),
}


@pytest.mark.parametrize("kind", UNSUITABLE)
def test_unsuitable(kind: str) -> None:
    answer, words = UNSUITABLE[kind]
    with pytest.raises(Unsuitable, match=re.escape(words)) as caught:
        parse(answer).python((3, 11))
    assert caught.value.remedy
    assert caught.value.exit_code == 19


def test_a_home_that_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".torpor").write_text("a file, and no folder")
    with pytest.raises(Unsuitable, match=r"Not a directory|File exists"):
        ask(Bare(tmp_path / "home")).python(sys.version_info[:2])


def test_room() -> None:
    with pytest.raises(NoSpace, match="12 MB free below /home; the engine needs 60 MB"):
        parse(told(free="12000000")).need_room(60_000_000)
    assert parse(told(free="all of it")).free == 0


DRIVERS = {
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.154.05  Thu Dec 28 15:37:48 UTC 2023": "535.154.05",
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder@U16)": "570.86.15",
    "580.65.06": "580.65.06",
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.": "",
    "": "",
}


@pytest.mark.parametrize("line", DRIVERS)
def test_drivers(line: str) -> None:
    assert parse(told(driver=line)).driver == DRIVERS[line]


def test_engines_that_are_there(bare: Bare) -> None:
    for name, boot in {"a" * 32: "now", "b" * 32: "", "c" * 32 + ".partial-1": "now"}.items():
        (bare.base / name).mkdir(parents=True)
        (bare.base / name / "ready").write_text(boot)
    (bare.base / ("d" * 32)).mkdir()
    assert ask(bare).engines == {"a" * 32: "now", "b" * 32: ""}


def test_hostile_words_stay_words(bare: Bare) -> None:
    """A home folder and a state with every sort of character in it."""
    host = Bare(bare.home / 'it\'s a "home" $(touch x); `touch y`')
    facts = ask(host, "st'ate $(touch z)", "0" * 32)
    assert facts.home == str(host.home)
    assert (host.home / "st'ate $(touch z)" / "rental").read_text() == "0" * 32
    assert sorted(path.name for path in host.home.iterdir()) == [".torpor", "st'ate $(touch z)"]


@pytest.mark.parametrize("rental", ["0" * 31, "G" * 32, "'; reboot; '"])
def test_a_rental_is_32_digits(rental: str) -> None:
    with pytest.raises(UsageError):
        question("state", rental)


def test_errors_survive_a_process_boundary() -> None:
    from torpor.errors import from_dict

    for error in (NoPython("a", remedy="b"), Unsuitable("c")):
        assert isinstance(from_dict(error.as_dict()), TorporError)
        assert type(from_dict(error.as_dict())) is type(error)


def test_facts_name_what_was_found() -> None:
    facts = parse(told(python(), rental="0" * 32))
    assert isinstance(facts, Facts)
    assert facts.pythons == (Python(path="/usr/bin/python3", version=(3, 11, 2), libc="glibc 2.36"),)
    assert facts.rental == "0" * 32
