"""Is everything there that a snapshot and a wake need? Each check is one line with a remedy; one that fails hides no other."""

from __future__ import annotations

import os
import platform
import resource
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import msgspec

from torpor import __version__
from torpor.clock import Clock
from torpor.control.claims import SKEW
from torpor.control.home import Home
from torpor.control.repository import Repository
from torpor.errors import NotFound, TorporError
from torpor.storage.base import Exists, Store
from torpor.storage.urls import file_path

State = Literal["ok", "warn", "fail"]

MIB = 1024 * 1024
PROBE = 32 * MIB
PREFIX = "doctor/"
SKEW_WARN = 30.0  # seconds
FREE_WARN = 1024 * MIB
FILES_WANTED = 4096
LIBRARIES = ("numpy", "msgspec", "blake3", "cryptography", "backports.zstd", "lz4")


class Check(msgspec.Struct, frozen=True):
    """One finding. `figures`: what was measured, for programs."""

    name: str
    state: State
    text: str
    remedy: str = ""
    figures: dict[str, float] | None = None


def check_store(store: Store, clock: Clock) -> Iterator[Check]:
    """Put, look at, read, list and delete probe objects under `doctor/`; clock and throughput come out of it."""
    name = f"{PREFIX}{secrets.token_hex(8)}"
    data = secrets.token_bytes(MIB) * (PROBE // MIB)
    try:
        yield from _probe(store, clock, name, data)
    except TorporError as error:
        yield Check("store", "fail", error.what, error.remedy or f"See that {store.url} is there, and that this computer may write to it.")
        return
    finally:
        yield from _remove(store, name)


def _probe(store: Store, clock: Clock, name: str, data: bytes) -> Iterator[Check]:
    next(iter(store.list(PREFIX)), None)
    yield Check("reachable", "ok", store.url)
    before = clock.now()
    began = time.perf_counter()
    info = store.put(name, data)
    put = time.perf_counter() - began
    after = clock.now()
    yield Check("writable", "ok", f"an object of {PROBE // MIB} MiB was written")
    began = time.perf_counter()
    same = store.get(name) == data
    get = time.perf_counter() - began
    if not same:
        yield Check("readable", "fail", "it was read back with other bytes than were written", "Do not use this store; look at its disk.")
    else:
        yield Check("readable", "ok", "it was read back, byte for byte")
    listed = any(found.name == name and found.size == len(data) for found in store.list(PREFIX))
    if listed:
        yield Check("list", "ok", "it was listed at once")
    else:
        promised = store.capabilities.consistent_list
        yield Check("list", "fail" if promised else "warn", "it was not listed at once", "Look at the store: snapshots may show late.")
    yield _conditional(store, name)
    yield _skew(info.modified, before, after)
    yield _throughput(put, get)


def _conditional(store: Store, name: str) -> Check:
    try:
        store.put(name, b"another", if_absent=True)
    except Exists:
        how = "decided by the store" if store.capabilities.conditional_put else "by looking first"
        return Check("conditional put", "ok", f"an object that is there is not replaced ({how})")
    return Check("conditional put", "fail", "an object that was there was replaced", "Do not use this store.")


def _skew(modified: float, before: float, after: float) -> Check:
    skew = max(0.0, before - modified, modified - after)
    state: State = "fail" if skew > SKEW else "warn" if skew > SKEW_WARN else "ok"
    remedy = "" if state == "ok" else "Set this computer's clock by NTP: claims and grants count on it."
    return Check("clock", state, f"{skew:.1f} s away from the store's", remedy, {"skew_seconds": round(skew, 3)})


def _throughput(put: float, get: float) -> Check:
    up, down = PROBE / put / 1e6, PROBE / get / 1e6
    figures = {"up_mb_per_s": round(up, 1), "down_mb_per_s": round(down, 1)}
    return Check("throughput", "ok", f"{up:.0f} MB/s up, {down:.0f} MB/s down, one request of {PROBE // MIB} MiB", "", figures)


def _remove(store: Store, name: str) -> Iterator[Check]:
    try:
        store.delete([name])
        gone = store.head(name) is None
    except TorporError as error:
        yield Check("delete", "fail", error.what, f"Delete {name} yourself; prune can't work without the right to delete.")
        return
    if gone:
        yield Check("delete", "ok", "the probe object is gone again")
    else:
        yield Check("delete", "fail", "the probe object is still there", f"Delete {name} yourself; see whether the store keeps versions.")


def check_keys(open_it: Callable[[], Repository]) -> Iterator[Check]:
    """Is there a repository, are its keys here, was the recovery key confirmed? `open_it` opens it, and must not make one."""
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
    system = f"torpor {__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}"
    yield Check("versions", "ok", f"{system}; {', '.join(found)}", "" if sys.version_info >= (3, 10) else "Use Python 3.10 or newer.")
