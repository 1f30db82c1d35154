"""Are keys, codecs, space and system as a snapshot and a wake need them? Each check is one line; one that fails hides no other.

probe_store.py asks the store.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

from torpor import __version__
from torpor.control.finding import Check, State
from torpor.control.home import Home
from torpor.control.repository import Repository
from torpor.errors import NotFound, TorporError
from torpor.storage.base import Store
from torpor.storage.urls import file_path
from torpor.workspace import system

FREE_WARN = 1 << 30  # bytes
FILES_WANTED = 4096
LIBRARIES = ("numpy", "msgspec", "blake3", "cryptography", "backports.zstd", "lz4")


def check_keys(open_it: Callable[[], Repository]) -> Iterator[Check]:
    """Is there a repository, are its keys here, was the recovery key confirmed? `open_it` opens it, and must not make one."""
    from torpor.control import recoverable
    from torpor.control.catalogue import check_pins, ids

    try:
        repository = open_it()
    except TorporError as error:
        none_yet = isinstance(error, NotFound)
        yield Check("repository", "warn" if none_yet else "fail", error.what, error.remedy)
        return
    try:
        known = ids(repository)
        check_pins(repository, known)
        yield Check("repository", "ok", f"{repository.id[:8]}, {repository.config.encryption}; snapshots: {len(known)}")
    except TorporError as error:
        yield Check("repository", "fail", error.what, error.remedy)
    if repository.keys is None:
        yield Check("keys", "fail", "they are not on this computer", "Import them with the recovery key: `torpor keys import`.")
        return
    yield Check("keys", "ok", f"key {repository.keys.id} is on this computer")
    try:
        why = recoverable.trouble(repository)
    except TorporError as error:
        why = error.what.rstrip(".")
    if why:
        yield Check("keys in the store", "fail", f"{why}, so the recovery key alone opens nothing", recoverable.REMEDY)
    elif repository.encrypted:
        yield Check("keys in the store", "ok", "the recovery key opens them" if repository.keys.recovery else "they are there")
    if not repository.encrypted or repository.recovery_confirmed:
        yield Check("recovery key", "ok", "confirmed" if repository.encrypted else "not needed: the repository is not encrypted")
    else:
        yield Check(
            "recovery key", "warn", "never confirmed: no machine is destroyed before that",
            "Write down what `torpor keys show` prints, and type it in with `torpor keys confirm`.",
        )  # fmt: skip


def check_codecs() -> Check:
    """Encode and decode with every codec."""
    from torpor.codecs.base import Scratch
    from torpor.codecs.table import ROWS, by_id

    data = b"".join(number.to_bytes(2, "little") + b"torpor" for number in range(32_768))
    scratch = Scratch()
    wrong: list[str] = []
    try:
        for row in ROWS:
            codec = by_id(row.id)
            coded = codec.encode(data, scratch)
            if coded is None:
                continue
            out = bytearray(len(data))
            codec.decode(bytes(coded), len(data), memoryview(out), scratch)
            if out != data:
                wrong.append(row.name)
    except TorporError as error:
        return Check("codecs", "fail", error.what, error.remedy)
    if wrong:
        return Check("codecs", "fail", f"{', '.join(wrong)} did not decode to what was encoded", "Look at this computer's memory.")
    return Check("codecs", "ok", ", ".join(row.name for row in ROWS))


def check_space(home: Home, store: Store) -> Iterator[Check]:
    """Free space where state, spools and a local store lie."""
    places = {"home": os.fspath(home.path), "temporary files": _temporary()}
    if store.url.startswith("file:"):
        places["store"] = file_path(store.url)
    for name, place in places.items():
        path = place
        while not os.path.exists(path):
            path = os.path.dirname(path)
        status = os.statvfs(path)
        free = status.f_bavail * status.f_frsize
        state: State = "ok" if free >= FREE_WARN else "warn"
        remedy = "" if state == "ok" else "Free space there."
        yield Check(f"space: {name}", state, f"{free / 1e9:.1f} GB free at {path}", remedy, {"free_bytes": float(free)})


def _temporary() -> str:
    import tempfile

    return tempfile.gettempdir()


def check_system() -> Iterator[Check]:
    """Open files, versions."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = soft if hard == resource.RLIM_INFINITY else max(soft, hard)
    if most >= FILES_WANTED:
        yield Check("open files", "ok", f"up to {most:,}")
    else:
        yield Check("open files", "warn", f"only {most:,}: trees deeper than that fail", f"Raise it: ulimit -n {FILES_WANTED}")
    found = []
    for library in LIBRARIES:
        try:
            found.append(f"{library} {version(library)}")
        except PackageNotFoundError:
            continue  # a newer Python has it built in; what is missing otherwise, `codecs` tells
    own = f"torpor {__version__}, Python {platform.python_version()}, {system.name()}"
    yield Check("versions", "ok", f"{own}; {', '.join(found)}", "" if sys.version_info >= (3, 10) else "Use Python 3.10 or newer.")
