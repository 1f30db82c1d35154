"""A hostile host: indexes and packs bent in one way each, sealed as they should be, then offered for commit or signed by a stolen key.

The bytes are made by tests/unit/byhand.py, which shares no code with torpor.
"""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backports import zstd

from tests.unit.byhand import LINEAGE, OLD, SNAPSHOT, Snapshot, b64, build, hkdf, seal
from torpor.control import claims, repository, restores
from torpor.control.catalogue import Snapshot as Committed
from torpor.control.commit import Commit
from torpor.control.repository import Repository
from torpor.events import ignore
from torpor.format import names
from torpor.format.manifest import IndexRef, Private
from torpor.jobs import RestoreResult, SnapshotResult
from torpor.remote.host import InProcess
from torpor.settings import load

Change = Callable[[Snapshot], None]
ATTEMPT = "0a0b0c0d"


@dataclass
class Stranger:
    """One repository folder with the bent snapshot in it, and a canary beside every target."""

    folder: Path
    snap: Snapshot
    repository: Repository

    @classmethod
    def make(cls, folder: Path, change: Change = lambda snap: None, encryption: str = "hpke-aes256gcm") -> Stranger:
        snap = build(folder / "repo", encryption, change)
        environment = {"TORPOR_HOME": str(folder / "home"), "TORPOR_RECOVERY_KEY": snap.repo.recovery_key()}
        found = repository.open_repository(load(environment, f"file://{folder / 'repo'}"))
        (folder / "around").mkdir()
        for name in ("canary", "target-canary"):
            (folder / "around" / name).mkdir()
            (folder / "around" / name / "file").write_bytes(b"untouched")
        (folder / "around" / "loose").write_bytes(b"untouched")
        return cls(folder, snap, found)

    @property
    def around(self) -> Path:
        return self.folder / "around"

    @property
    def target(self) -> Path:
        return self.around / "target"

    def result(self) -> SnapshotResult:
        """What the host answers."""
        ref = IndexRef(**self.snap.manifest["index"])
        keys = {writer: base64.b64decode(key) for writer, key in self.snap.manifest["keyring"].items()}
        return SnapshotResult(
            snapshot=SNAPSHOT, rental="1" * 32, index=ref, keys=keys, files=1, directories=1, links=1, entries=1,
            raw_bytes=1, stored_bytes=1, new_bytes=1, packs=1, chunks=1, codecs={}, problems={}, problem_paths=[], stages={"read": 1.0},
            seconds=1.0, compared=True, read_files=1, read_bytes=1, versions={"torpor": "0"},
        )  # fmt: skip

    def allowed(self) -> dict[str, int]:
        packs = self.folder / "repo" / "packs" / OLD
        return {f"{OLD}/{path.name}": path.stat().st_size for path in packs.iterdir()}

    def commit(
        self, allowed: Mapping[str, int] | None = None, continues: tuple[str, ...] = (OLD,), result: SnapshotResult | None = None
    ) -> Committed:
        """Offer the snapshot to the control side, which has not seen it yet."""
        repo = self.repository
        repo.store.delete([names.manifest(SNAPSHOT)])
        claim = claims.new(repo, SNAPSHOT, LINEAGE, [], list(continues))
        claims.write(repo, claim)
        commit = Commit(repo, claim, ATTEMPT, [], self.allowed() if allowed is None else allowed)
        return commit.run(result or self.result(), Private(), 1, None)

    def committed(self) -> bool:
        return self.repository.store.head(names.manifest(SNAPSHOT)) is not None

    def restore(self, **options: Any) -> RestoreResult:
        where = os.fsencode(self.target)
        state = os.fsencode(self.folder / "state")
        return restores.restore(self.repository, InProcess(), SNAPSHOT, where, state, restores.Options(**options), ignore)

    def outside(self) -> dict[str, tuple[int, int, int, bytes]]:
        """All that is around the target, with content, mode and times."""
        return {name: facts for name, facts in listing(self.around).items() if not (name + "/").startswith("target/")}

    def written(self) -> list[str]:
        """What a restore left in the target: files and links; folders and its own mark do not count."""
        if not self.target.exists():
            return []
        found = [path for path in self.target.rglob("*") if path.is_symlink() or not path.is_dir()]
        return sorted(str(path.relative_to(self.target)) for path in found if path.name != ".torpor-restore")


def listing(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Every entry below a folder, links not followed: mode, mtime, ctime, content or target."""
    out = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            status = path.lstat()
            content = os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
            out[str(path.relative_to(folder))] = (status.st_mode, status.st_mtime_ns, status.st_ctime_ns, content)
    return out


def with_frame(kind: int, frame: bytes, raw: int | None = None, rows: int | None = None) -> Change:
    """Put another zstd frame into the first section of a kind, sealed under what the head says of it: its old raw length, or `raw`."""

    def change(snap: Snapshot) -> None:
        snap.bend_index = lambda data: _reseal(snap, data, kind, frame, raw, rows)

    return change


def _reseal(snap: Snapshot, data: bytes, kind: int, frame: bytes, raw: int | None, rows: int | None) -> bytes:
    size, count = struct.unpack_from("<II", data, 12)
    table = [list(struct.unpack_from("<B3xIIIQ", data, 32 + 24 * i)) for i in range(count)]
    bodies = [data[offset : offset + sealed] for _, _, sealed, _, offset in table]
    number = next(i for i, row in enumerate(table) if row[0] == kind)
    table[number][3] = table[number][3] if raw is None else raw
    table[number][1] = table[number][1] if rows is None else rows
    key = hkdf(snap.data_key, f"torpor index v1\0{snap.writer}".encode())
    aad = b"torpor section v1\0" + bytes.fromhex(snap.repo.id) + snap.writer.encode() + b"\0"
    bodies[number] = seal(key, number, frame, aad + struct.pack("<IBII", number, kind, table[number][1], table[number][3]))
    at, rebuilt = size, b""
    for row, body in zip(table, bodies, strict=True):
        rebuilt += struct.pack("<B3xIIIQ", row[0], row[1], len(body), row[3], at)
        at += len(body)
    return data[:32] + rebuilt + data[32 + len(rebuilt) : size] + b"".join(bodies)


def head_field(offset: int, code: str, value: int) -> Change:
    """Overwrite an integer of the index's head; its digests in the manifest agree."""

    def change(snap: Snapshot) -> None:
        size = struct.calcsize(code)
        snap.bend_index = lambda data: data[:offset] + struct.pack(code, value) + data[offset + size :]

    return change


def roots(*paths: bytes, kinds: tuple[str, ...] = ("directory", "file")) -> Change:
    def change(snap: Snapshot) -> None:
        for root, path, kind in zip(snap.meta["roots"], paths, kinds, strict=True):
            root["path"], root["kind"] = b64(path), kind

    return change


def manifest(**changes: object) -> Change:
    return lambda snap: snap.manifest_changes.update(changes)


def index_ref(**changes: object) -> Change:
    """Change what the manifest says of its index."""

    def change(snap: Snapshot) -> None:
        write = snap.repo.signed

        def signed(context: str, payload: Any) -> bytes:
            if context == "torpor manifest v1":
                payload["index"].update(changes)
            return write(context, payload)

        snap.repo.signed = signed  # type: ignore[method-assign]

    return change


def bomb(size: int) -> bytes:
    """A zstd frame of zeros, a few KiB long."""
    frame = zstd.compress(bytes(size), 3)
    assert len(frame) * 500 < size
    return frame
