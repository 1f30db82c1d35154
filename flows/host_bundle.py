"""Prefect for a rented host: a second bundle, brought there as the engine's is, with nothing installed and no internet needed there.

It holds torpor whole, its flows and tasks, and what Prefect's client side needs; not the server's database, its pages, and what they
alone import. A host that runs jobs over SSH has none of it.
"""

from __future__ import annotations

import hashlib
import re
import sys
import time
import zipfile
from collections.abc import Callable
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

import flows
import tasks
import torpor
from torpor.control.far import Far
from torpor.events import Listener, Progress, ignore
from torpor.remote import bundle, closure, wheels
from torpor.remote.bundle import Bundle
from torpor.remote.contents import INSTEAD, Contents, Part, installed, kept, unzipped
from torpor.remote.delivery import Delivery
from torpor.remote.hostfacts import Unsuitable
from torpor.remote.platforms import Platform, of, runs

# What the server alone imports: Prefect publishes its client without these too (the distribution prefect-client).
SERVER = frozenset(
    (
        "aiosqlite", "alembic", "apprise", "asyncpg", "burner-redis", "cyclopts", "dateparser", "docker", "docstring-parser", "greenlet",
        "mako", "py-key-value-aio", "pydocket", "redis", "regex", "rich-rst", "sqlalchemy", "typer", "tzlocal",
    )
)  # fmt: skip
UNSEEN = ("prefect/server/ui*", "prefect/server/database/_migrations/*", "prefect/testing/*")
TRIED = ("flows.host_worker", "flows.on_host", "flows.run_once", "prefect.workers.process")
ROOTS = ("torpor", "prefect", "fastapi")
TOLD = ("*.dist-info/METADATA", "*.dist-info/entry_points.txt")  # asked for at run time
LEAST = (3, 11)  # of flows and tasks


def bring(far: Far, cache: Path, listen: Listener = ignore, pause: Callable[[float], None] = time.sleep) -> tuple[str, ...]:
    """Put it on a host that has the engine, unless it is there; how that host starts a Python which sees it, for `-m MODULE`.

    Raises `NoSpace`, `Unsuitable`, `MissingDependency`, `HostFailed`, and what the shell raises.
    """
    far.prepare(listen)
    facts = far.engine.facts
    python = facts.python(sys.version_info[:2])
    if python.minor < LEAST:
        raise Unsuitable(
            f"The host's Python is {'.'.join(map(str, python.version))}; a worker needs 3.11 or newer.",
            safe="Nothing was changed on the host.",
            remedy="Choose the runner ssh, which runs on 3.10 too.",
        )
    made = make(of(facts, python), cache)
    if made.name not in facts.engines:
        facts.need_room(made.room)
    progress = Progress(listen)
    stage = progress.stage("bootstrap")
    stage.expect(made.size)
    try:
        Delivery(far.shell, python.path, facts.base, pause).bring(made, cache, TRIED, stage.add)
    finally:
        progress.end("bootstrap")
    return (python.path, "-I", "-S", "-X", "utf8", f"{facts.base}/{made.name}")


def make(where: Platform, cache: Path) -> Bundle:
    """The bundle for a host, made if it is not in `cache`."""
    return bundle.kept(_stamp(where), lambda: contents(where, cache), cache)


def contents(where: Platform, cache: Path) -> Contents:
    """Every file of it. Raises `MissingDependency`, `HostFailed` where packages must be fetched and can't be."""
    found = _own(where)
    names = needed()
    if any(name.endswith(".so") for name in found):
        names.remove(INSTEAD.name)  # the compiled kernels do without
    taken = installed(where, [Part(name) for name in names])
    if taken is None:
        wanted = [f"{name}=={metadata.version(name)}" for name in names]
        taken = {}
        for wheel in wheels.fetch(wanted, where, cache):
            with zipfile.ZipFile(wheel) as archive:
                told = {name: archive.read(name) for name in archive.namelist() if _is_told(name)}
            taken |= dict(kept(unzipped(wheel))) | told
    else:
        for name in names:
            distribution = metadata.distribution(name)
            told_here = [file for file in distribution.files or () if _is_told(str(file))]
            taken |= {str(file): Path(str(distribution.locate_file(file))).read_bytes() for file in told_here}
    found |= {name: data for name, data in taken.items() if not any(fnmatch(name, pattern) for pattern in UNSEEN)}
    return found


def needed() -> list[str]:
    """Names of the distributions: what torpor and Prefect ask for in turn, without what the server alone imports."""
    found: dict[str, None] = {}
    todo = list(ROOTS)
    while todo:
        name = wheels.normal(todo.pop())
        if name in found or name in SERVER:
            continue
        found[name] = None
        for line in metadata.requires(name) or ():
            asked, _, marker = line.partition(";")
            match = re.match(r"[\w.-]+", asked.strip())
            if match and "extra" not in marker and _is_here(match[0]):
                todo.append(match[0])
    del found["torpor"]
    return sorted(found)


def _is_told(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in TOLD)


def _is_here(name: str) -> bool:
    """Markers are judged by what is installed: a host of another kind gets the same."""
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _own(where: Platform) -> Contents:
    """Torpor, its flows and tasks, and what starts them."""
    found: Contents = {}
    for package in (torpor, flows, tasks):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*")):
            if path.suffix in (".py", ".so") and "testing" not in path.parts:
                found[str(path.relative_to(root.parent))] = path.read_bytes()
    found = {name: data for name, data in found.items() if not name.endswith(".so") or runs(data, where)}
    found["__main__.py"] = closure.modules()["torpor.remote.entry"].read_bytes()
    return found


def _stamp(where: Platform) -> str:
    """Changes with whatever `contents` is made from."""
    told = [repr(where), sys.version, *(f"{name} {metadata.version(name)}" for name in needed())]
    digest = hashlib.sha256("\0".join(told).encode())
    for name, data in sorted(_own(where).items()):
        digest.update(f"{name} {len(data)} ".encode() + data)
    return digest.hexdigest()[:32]
