"""One compressed file with all that a host needs, made once and kept below `TORPOR_HOME/bundles`.

It is named by what is in it: `<32 hex digits of its contents>-<sha256 of the file>.tar.gz`, so that a host that has these contents is
told by the name alone, and a file that went bad is noticed before it is sent. gzip: any Python unpacks it, the engine in a tenth of a
second; xz would make the file a quarter smaller and take that much longer to unpack, and seconds to make.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import os
import secrets
import shutil
import tarfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from torpor.remote.contents import Contents, contents, stamp
from torpor.remote.platforms import Platform

MONTH = 30 * 86400.0  # seconds; what was not asked for since then is deleted
SUFFIX = ".tar.gz"


class Bundle(msgspec.Struct, frozen=True):
    """`name`: of the contents. `digest`: sha256 of the file, hex. `size`, `unpacked`: bytes; `files`: how many."""

    name: str
    digest: str
    size: int
    unpacked: int
    files: int

    def path(self, cache: Path) -> Path:
        return cache / f"{self.name}-{self.digest}{SUFFIX}"

    @property
    def room(self) -> int:
        """Bytes of disk that a host needs for it: packed, unpacked, compiled, in blocks of 4 KiB."""
        return self.size + self.unpacked + 8192 * self.files + 16 * 1024 * 1024


def engine(where: Platform, cache: Path) -> Bundle:
    """The engine's bundle for a host, made if it is not there. Raises what `contents` raises."""
    return kept(stamp(where), lambda: contents(where, cache), cache)


def kept(key: str, make: Callable[[], Contents], cache: Path) -> Bundle:
    """What was made before for the same key, if its file is still what it was; else it is made, by one of all who ask for it at once."""
    if found := _kept(key, cache):
        return found
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Threads shut each other out, too: each has a file of its own open. A lock for each first digit, so that few files stay.
    with open(cache / f".lock-{key[:1]}", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if found := _kept(key, cache):
            return found
        made = write(make(), cache)
        _write(cache / f"made-{key}.json", msgspec.json.encode(made))
    _clean(cache)
    return made


def _kept(key: str, cache: Path) -> Bundle | None:
    memo = cache / f"made-{key}.json"
    try:
        found = msgspec.json.decode(memo.read_bytes(), type=Bundle)
        path = found.path(cache)
        if hashlib.sha256(path.read_bytes()).hexdigest() == found.digest:
            os.utime(path)
            os.utime(memo)
            return found
        path.unlink()
    except (FileNotFoundError, msgspec.MsgspecError):
        pass
    return None


def write(what: Contents, cache: Path) -> Bundle:
    data = pack(what)
    made = Bundle(name_of(what), hashlib.sha256(data).hexdigest(), len(data), sum(map(len, what.values())), len(what))
    _write(made.path(cache), data)
    return made


def name_of(what: Contents) -> str:
    digest = hashlib.sha256()
    for name, data in sorted(what.items()):
        digest.update(f"{len(name)} {len(data)} {name}".encode())
        digest.update(data)
    return digest.hexdigest()[:32]


def pack(what: Contents) -> bytes:
    """The same bytes for the same contents: no times, no owners, names in order."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in sorted(what.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(plain.getbuffer(), 6, mtime=0)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all: another process may look for it now."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    temporary.write_bytes(data)
    temporary.rename(path)


def _clean(cache: Path) -> None:
    before = time.time() - MONTH
    for path in (*cache.glob(f"*{SUFFIX}"), *cache.glob("made-*.json"), *cache.glob("wheels-*")):
        with suppress(FileNotFoundError):  # another process cleans up too
            if path.stat().st_mtime < before:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
