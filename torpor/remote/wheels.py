"""Fetching wheels for another machine's Python, by pip, into a folder that is kept."""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from torpor.errors import HostFailed, MissingDependency
from torpor.remote.platforms import Platform

PATIENCE = 900.0  # seconds for all downloads of one bundle


def normal(name: str) -> str:
    """A project's name as indexes compare them."""
    return re.sub(r"[-_.]+", "-", name).lower()


def project(wheel: str) -> str:
    return normal(wheel.partition("-")[0])


def requirement(name: str) -> str:
    """What torpor asks of a package, and nothing newer than what is installed here: what it was tested with, or what went before for an
    older Python."""
    asked = ""
    for line in metadata.requires("torpor") or ():
        found = re.match(r"([\w.-]+)\s*(?:\[[^\]]*\])?\s*([^;]*)", line)
        if found and normal(found[1]) == normal(name):
            asked = found[2].strip().strip("()")
    try:
        newest = f"<={metadata.version(name)}"
    except metadata.PackageNotFoundError:
        newest = ""
    return f"{name}{','.join(filter(None, (asked, newest)))}"


def fetch(requirements: list[str], where: Platform, cache: Path, *, whole: bool = False) -> list[Path]:
    """The wheels; `whole`: with all that they require in turn. Fetched once: `cache` keeps them. Raises `MissingDependency` without pip,
    `HostFailed` if they can't be had."""
    told = "\0".join((*sorted(requirements), repr(where.python), where.architecture, repr(where.glibc), repr(whole)))
    folder = cache / f"wheels-{hashlib.sha256(told.encode()).hexdigest()[:32]}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
        try:
            _download(requirements, where, temporary, whole)
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():  # unless another process was quicker
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return sorted(folder.glob("*.whl"))


def _download(requirements: list[str], where: Platform, into: Path, whole: bool) -> None:
    if find_spec("pip") is None:
        raise MissingDependency(
            f"The host has Python {where.python[0]}.{where.python[1]} on {where.architecture}, this computer another: packages for it "
            "must be fetched, and this Python has no pip.",
            safe="Nothing was changed on the host.",
            remedy="Install pip beside torpor (python -m ensurepip; uv tool install --with pip torpor), or run torpor with the "
            "host's version of Python.",
        )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", ".".join(map(str, where.python)), "--dest", str(into)]
    command += [word for tag in where.tags for word in ("--platform", tag)]
    try:
        done = subprocess.run(
            [*command, *([] if whole else ["--no-deps"]), *requirements],
            stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        done = subprocess.CompletedProcess(command, 1, b"", b"it took too long")
    if done.returncode:
        said = [line for line in done.stderr.decode(errors="replace").splitlines() if line.startswith("ERROR")] or ["it took too long"]
        raise HostFailed(
            f"Packages for the host's Python can't be fetched: {said[-1].removeprefix('ERROR: ')[:300]}",
            safe="Nothing was changed on the host.",
            remedy="See to this computer's way to its package index (pip config list), then run the command again.",
        )
