"""Recovery receipts: what was proven of a snapshot, by the control side, signed and kept beside it."""

from __future__ import annotations

import math
import platform
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING, Literal

import msgspec

from torpor import __version__
from torpor.clock import parse_rfc3339, rfc3339
from torpor.control import catalogue, distrust, heads
from torpor.control.catalogue import Snapshot
from torpor.control.commit import data_keys, fetch_index, open_index
from torpor.control.readings import Readings
from torpor.control.repository import Repository
from torpor.errors import Damaged, Interrupted, Malformed, NotFound
from torpor.events import Listener, Progress
from torpor.format import manifest, names
from torpor.format.manifest import HostProof, Receipt
from torpor.storage.base import PACKS, Exists
from torpor.workspace import system

if TYPE_CHECKING:
    from torpor.format.index import Pack
    from torpor.workspace.indexfile import IndexFile

Depth = Literal["presence", "sample", "full"]

FRESH = 15 * 60.0  # seconds after which a receipt proves nothing about now
SAMPLE_PART = 0.05
SAMPLE_MIN = 4


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How a verification reads. `rate`: bytes a second, 0 for no limit. A sample has `part` of the packs, or `packs` of them if that
    is not 0. `restart`: read everything, whatever an earlier one that did not end has read.
    """

    rate: int = 0
    part: float = SAMPLE_PART
    packs: int = 0
    restart: bool = False


class Verified(msgspec.Struct):
    """Outcome of a verification. `damage`: object name → what is wrong; empty if all is well, and only then there is a receipt.

    `earlier_packs`: of a full one, those that an earlier run has read, which are not read again.
    """

    snapshot: str
    depth: Depth
    packs: int = 0
    pack_bytes: int = 0
    read_packs: int = 0
    read_bytes: int = 0
    earlier_packs: int = 0
    earlier_bytes: int = 0
    files: int = 0
    damage: dict[str, str] = msgspec.field(default_factory=dict)
    hurt: list[str] = msgspec.field(default_factory=list)
    receipt: Receipt | None = None
    receipt_name: str = ""
    seconds: float = 0.0


def verify(
    repository: Repository,
    snapshot_id: str,
    depth: Depth,
    listen: Listener,
    host: Callable[[], HostProof] | None = None,
    reading: Reading = Reading(),  # noqa: B008 - frozen
) -> Verified:
    """Prove a snapshot: manifest, index, presence and sizes of every pack; with `sample` some packs are read back, with `full` all.

    `host` is asked for its proof once everything was read, so that its last look is the newest thing in the receipt. A full one
    without a host goes on where one that did not end has stopped, within a day; its receipt has the time of the oldest reading.
    Damage is reported in the outcome. Raises only where nothing can be said (`NotFound`, `KeysMissing`, `StorageUnavailable`),
    what `host` raises, and `Interrupted`.
    """
    progress = Progress(listen)
    out = Verified(snapshot_id, depth)
    try:
        snapshot = catalogue.load(repository, snapshot_id)
        with ExitStack() as stack:
            readings = None
            if depth == "full" and host is None:
                readings = stack.enter_context(Readings(repository, snapshot, restart=reading.restart))
            check = _Check(repository, snapshot, out, progress, reading, readings, proving=host is not None)
            try:
                check.run()
            except (Interrupted, KeyboardInterrupt):
                raise _interrupted(check) from None
    except (Damaged, Malformed) as error:
        name = names.manifest(snapshot_id)
        out.damage.setdefault(_object_of(error, name), error.what)
        out.hurt = hurt_by(repository, set(out.damage))
        out.seconds = round(progress.elapsed(), 3)
        return out
    out.seconds = round(progress.elapsed(), 3)
    good = [name for name in (*check.read, snapshot.manifest.index.name) if PACKS + name not in out.damage]
    distrust.learn(repository, out.damage, good)
    if not out.damage:
        _sign(repository, snapshot, out, check, host() if host is not None else None)
    else:
        out.hurt = hurt_by(repository, set(out.damage))
    if readings is not None:
        readings.done()  # with damage too: it came to its end, and the next one reads everything
    return out


def _interrupted(check: _Check) -> Interrupted:
    known = check.good + check.out.earlier_packs
    kept = check.readings is not None and known > 0
    return Interrupted(
        f"The verification of {check.out.snapshot} was interrupted.",
        safe=f"{known} of {check.out.packs} packs were read and are right; they are remembered for a day."
        if kept
        else "Nothing was changed.",
        remedy="Run the same command again: it goes on from there." if kept else "Run it again.",
    )


def _object_of(error: Damaged | Malformed, fallback: str) -> str:
    return getattr(error, "object", None) or fallback


class _Check:
    """One verification up to the receipt; fills `out`. `read`: names of packs that were read. `since`: the oldest reading that counts.

    `proving`: a machine goes on the word of this receipt.
    """

    def __init__(
        self, repository: Repository, snapshot: Snapshot, out: Verified, progress: Progress, reading: Reading, readings: Readings | None,
        *, proving: bool,
    ) -> None:  # fmt: skip
        self._repository = repository
        self._snapshot = snapshot
        self._progress = progress
        self._reading = reading
        self._proving = proving
        self._lock = threading.Lock()
        self.out = out
        self.readings = readings
        self.read: list[str] = []
        self.good = 0
        self.since: float | None = None

    def run(self) -> None:
        repository, snapshot, out = self._repository, self._snapshot, self.out
        ref = snapshot.manifest.index
        index_name = PACKS + ref.name
        try:
            spool = fetch_index(repository, ref)
        except (Damaged, Malformed, NotFound) as error:
            out.damage[index_name] = error.what
            return
        with spool:
            info = repository.store.head(index_name)
            if info is None or info.size != ref.size:
                out.damage[index_name] = "it has another size than the manifest says"
            try:
                found = open_index(repository, spool, ref, data_keys(repository, snapshot.manifest.keyring), snapshot.id)
                for _ in found.checked_blocks():
                    pass
            except (Damaged, Malformed) as error:
                out.damage[index_name] = error.what
                return
            packs = found.head.packs
            out.packs, out.pack_bytes, out.files = len(packs), sum(pack.size for pack in packs), found.check.files
            if (found.check.files, found.count) != (snapshot.manifest.files, snapshot.manifest.entries):
                out.damage[index_name] = "it holds another number of files than the manifest says"
            there = heads.present(repository, packs)
            for pack in packs:
                if pack.name not in there:
                    out.damage[PACKS + pack.name] = "it is missing, or has another size or digest"
            numbers = self._choose(packs, [number for number, pack in enumerate(packs) if pack.name in there])
            if numbers:
                self._scrub(found, numbers)

    def _choose(self, packs: list[Pack], there: list[int]) -> list[int]:
        numbers = _choose(self.out.depth, there, self._reading)
        if self._proving and self.out.depth == "sample":
            never = _never_decoded(self._repository, self._snapshot, {pack.name for pack in packs})
            numbers = sorted({*numbers, *(number for number in there if packs[number].name in never)})
        if self.readings is None:
            return numbers
        earlier = self.readings.packs.keys() - distrust.packs(self._repository)  # found damaged since, by the verification of another
        before = {number: self.readings.packs[packs[number].name] for number in numbers if packs[number].name in earlier}
        self.out.earlier_packs, self.out.earlier_bytes = len(before), sum(packs[number].size for number in before)
        self.since = min(before.values(), default=None)
        return [number for number in numbers if number not in before]

    def _scrub(self, found: IndexFile, numbers: list[int]) -> None:
        # Reading back needs the engine; a snapshot, which only looks at receipts, starts sooner without it.
        from torpor.control.granting import ForRestore
        from torpor.control.restores import restore_keys
        from torpor.jobs import PACKS_ASKED
        from torpor.storage.transfer import Transfer
        from torpor.verify.scrub import Scrub

        keys, _ = restore_keys(self._repository, self._snapshot)
        self.read = [found.head.packs[number].name for number in numbers]
        # Some packs at a time, as a host: a slow one takes longer than a grant, or temporary credentials, can last.
        grants, places = ForRestore(self._repository, self.read), {name: place for place, name in enumerate(self.read)}
        with Transfer(grants.first(), grants.more, self._repository.clock) as transfer:
            transfer.more = lambda _, name: self.read[places[name] : places[name] + PACKS_ASKED]
            scrub = Scrub(
                self._repository.id, found, keys.id_key, keys.packs, transfer, self._progress, self._reading.rate, self._note
            )  # fmt: skip
            findings = scrub.run(numbers, max(2, system.cores()))
        self.out.read_packs, self.out.read_bytes = findings.packs, findings.bytes
        self.out.damage |= findings.damage

    def _note(self, pack: str) -> None:
        with self._lock:
            self.good += 1
        if self.readings is not None:
            self.readings.add(pack)


def _choose(depth: Depth, numbers: list[int], reading: Reading) -> list[int]:
    """Which packs to read back: none, a random sample with the newest in it, or all."""
    if depth == "full":
        return numbers
    if depth == "presence" or not numbers:
        return []
    count = min(len(numbers), reading.packs or max(SAMPLE_MIN, math.ceil(len(numbers) * reading.part)))
    rest = numbers[:-1]
    picked = {numbers[-1]}
    while len(picked) < count:
        picked.add(rest[secrets.randbelow(len(rest))])
    return sorted(picked)


def _never_decoded(repository: Repository, snapshot: Snapshot, packs: set[str]) -> set[str]:
    """Those packs that nobody is known to have decoded: reused ones that no receipt says were read back.

    This snapshot's own were decoded and compared by the host that wrote them.
    """
    own = names.writer_of(snapshot.manifest.index.name)
    never = {pack for pack in packs if names.writer_of(pack) != own}
    for writer in sorted({names.snapshot_of(pack) for pack in never} | {snapshot.manifest.parent or ""} - {""}):
        for info in repository.store.list(f"{names.RECEIPTS}{writer}/"):
            try:
                receipt = _load(repository, info.name, writer)
                earlier = catalogue.load(repository, writer)
            except (Damaged, Malformed, NotFound):
                continue  # it proves nothing
            if receipt.manifest_sha256 == earlier.sha256:
                everything = {pack.name for pack in heads.head_of(repository, earlier.manifest).packs}
                never -= everything if receipt.read_packs == "all" else set(receipt.read_packs)
    return never


def _sign(repository: Repository, snapshot: Snapshot, out: Verified, check: _Check, host: HostProof | None) -> None:
    at = repository.clock.now()
    out.receipt = Receipt(
        snapshot=snapshot.id, manifest_sha256=snapshot.sha256, time=rfc3339(at if check.since is None else check.since), depth=out.depth,
        packs=out.packs, pack_bytes=out.pack_bytes, read_packs="all" if out.depth == "full" else check.read, files=out.files, host=host,
        versions={"torpor": __version__, "python": platform.python_version()}, ended=None if check.since is None else rfc3339(at),
    )  # fmt: skip
    data = repository.sign("receipt", out.receipt)
    for later in count():  # another of this very millisecond is not written over
        out.receipt_name = names.receipt(snapshot.id, at + later / 1000)
        try:
            repository.store.put(out.receipt_name, data, if_absent=True)
        except Exists:
            continue
        return


def load_all(repository: Repository, snapshot: str) -> list[Receipt]:
    """Receipts of a snapshot, oldest first; all verified."""
    return [_load(repository, info.name, snapshot) for info in repository.store.list(f"{names.RECEIPTS}{snapshot}/")]


def _load(repository: Repository, name: str, snapshot: str) -> Receipt:
    receipt = manifest.decode(repository.read_signed("receipt", name), Receipt, name)
    if receipt.snapshot != snapshot:
        raise Malformed(f"{name} is the receipt of another snapshot.")
    return receipt


def fully_verified(repository: Repository, snapshot: Snapshot) -> bool:
    """Whether a receipt says that the control side read and checked every byte of this very manifest's packs."""
    return any(receipt.depth == "full" for receipt in _of(repository, snapshot))


def was_read(repository: Repository, snapshot: Snapshot) -> bool:
    """Whether a receipt says that packs of this very manifest were read back and were right: a sample of them, or all."""
    return any(receipt.depth in ("sample", "full") for receipt in _of(repository, snapshot))


def _of(repository: Repository, snapshot: Snapshot) -> Iterator[Receipt]:
    """What can be believed of a manifest's receipts, newest first."""
    for info in reversed(list(repository.store.list(f"{names.RECEIPTS}{snapshot.id}/"))):
        try:
            receipt = _load(repository, info.name, snapshot.id)
        except (Damaged, Malformed, NotFound):
            continue  # it proves nothing
        if receipt.manifest_sha256 == snapshot.sha256:
            yield receipt


def is_fresh(repository: Repository, receipt: Receipt) -> bool:
    return 0 <= repository.clock.now() - parse_rfc3339(receipt.time) <= FRESH


def known_hurt(repository: Repository) -> list[str]:
    """Snapshots that name what verifications on this computer found missing or damaged."""
    bad = {PACKS + name for name in distrust.packs(repository)}
    return hurt_by(repository, bad) if bad else []


def hurt_by(repository: Repository, objects: set[str]) -> list[str]:
    """Snapshots that name any of these objects."""
    hurt: list[str] = []
    good, bad = catalogue.load_all(repository)
    for snapshot in good:
        own = {names.manifest(snapshot.id), PACKS + snapshot.manifest.index.name}
        try:
            own |= {PACKS + pack.name for pack in heads.head_of(repository, snapshot.manifest).packs}
        except (Damaged, Malformed, NotFound):
            hurt.append(snapshot.id)
            continue
        if own & objects:
            hurt.append(snapshot.id)
    return sorted({*hurt, *bad})
