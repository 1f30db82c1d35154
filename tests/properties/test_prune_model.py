"""Snapshots, removals and prunes at once, every store operation a place where another may come in, clocks that jump, actors that die.

The one law: a snapshot that has a manifest has all its packs. The only window in which it may not hold is told in docs/format.md §2:
a control side that was held up between its look at its claim and its write until the claim had run out. Its second look ends that.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.properties.barestore import BareStore
from tests.properties.tinyhost import TinyHost
from torpor.clock import FakeClock, parse_rfc3339
from torpor.control import catalogue, claims, heads, marks, needs, prune, receipts, repository, snapshots
from torpor.control.repository import Repository
from torpor.errors import ClaimLost, TorporError
from torpor.events import ignore
from torpor.format import manifest, names, recovery
from torpor.format.manifest import Claim, Manifest
from torpor.jobs import Scope
from torpor.settings import load
from torpor.storage.base import PACKS, Store
from torpor.storage.memory import MemoryStore
from torpor.testing.faults import Crash
from torpor.testing.stepper import Actor, SteppedStore, Stepper

HOUR = 3600.0
SCOPE = Scope(roots=[b"/work"])


class World:
    """One store, two rentals of one lineage, and as many control sides as there are actors, each with a home of its own."""

    def __init__(self, folder: Path, like: World | None = None, *, bare: bool = False) -> None:
        self.clock: FakeClock = FakeClock(like.clock.at) if like else FakeClock()
        self.memory = MemoryStore(self.clock)
        self.stepper = Stepper()
        stepped = SteppedStore(self.memory, self.stepper)
        self.store: Store = BareStore(stepped) if bare else stepped
        self.folder = folder
        self.late: set[str] = set()  # manifests written after their claim had run out
        self.expiry: dict[str, float] = {}  # when each claim runs out, or ran out
        self.known: dict[bytes, frozenset[str]] = {}
        if like is not None:
            self.memory.objects.update(like.memory.objects)
            self.key: str = like.key
            self.hosts: list[TinyHost] = [
                dataclasses.replace(host, store=self.store, record=list(host.record), journals={}) for host in like.hosts
            ]
            self.repository = self.control("first")
            return
        self.key = ""
        self.repository = self.control("first")
        self.key = recovery.encode(self.repository.private().recovery)
        self.hosts = [TinyHost(self.store), TinyHost(self.store)]
        self.take(0)
        self.hosts[1].restored(self.hosts[0])

    def control(self, name: str, *, keys: bool = True) -> Repository:
        """A control side of its own; its store is the one that is stepped through."""
        found = load({"TORPOR_HOME": str(self.folder / name), "TORPOR_RECOVERY_KEY": self.key if keys else ""}, self.memory.url)
        made = repository.open_repository(found, create=not self.key, clock=self.clock)
        made.store = self.store
        return made

    def take(self, number: int, control: Repository | None = None) -> snapshots.Taken:
        self.clock.advance(0.002)  # no two ids of one millisecond
        return snapshots.take(control or self.repository, self.hosts[number], SCOPE, b"", snapshots.Options(), ignore)

    def start_take(self, number: int, name: str = "") -> Actor:
        control = self.control(f"snapshotter {number}{name}")
        return self.stepper.start(f"snapshot {number}", lambda: self.take(number, control))

    def start_prune(self, name: str = "", grace: float = prune.GRACE, *, keys: bool = True) -> Actor:
        control = self.control(f"pruner {name}", keys=keys)
        return self.stepper.start(f"prune {name}", lambda: prune.prune(control, grace=grace))

    def start_remove(self, snapshot: str) -> Actor:
        control = self.control("remover")
        return self.stepper.start("rm", lambda: prune.remove(control, snapshot))

    def ids(self) -> list[str]:
        return catalogue.ids(self.repository)

    def renew(self) -> None:
        """What the background thread of each live snapshotter does."""
        for info in list(self.memory.list(names.CLAIMS)):
            claim = manifest.decode(self.repository.read_signed("claim", info.name), Claim, info.name)
            with suppress(ClaimLost):
                claims.renew(self.repository, claim)
            self._note(info.name)

    def step(self, actor: Actor) -> None:
        """One operation, noting a manifest that comes too late."""
        pending = actor.pending
        if pending is not None and pending[0] == "put" and pending[1].startswith(names.SNAPSHOTS):
            snapshot = pending[1][len(names.SNAPSHOTS) :].removesuffix(".json")
            if self.expiry[snapshot] <= self.clock.now():
                self.late.add(snapshot)
        self.stepper.step(actor)
        if pending is not None and pending[0] == "put" and pending[1].startswith(names.CLAIMS):
            self._note(pending[1])

    def until(self, actor: Actor, operation: str, prefix: str) -> bool:
        """Step until it stands before such an operation; False if it ended without one."""
        while actor.pending is not None and not (actor.pending[0] == operation and actor.pending[1].startswith(prefix)):
            self.step(actor)
        return not actor.ended

    def _note(self, name: str) -> None:
        """Remember until when a claim holds, whatever becomes of its object."""
        found = self.memory.objects.get(name)
        if found is not None:
            claim = manifest.decode(self.repository.verify("claim", found.data, name), Claim, name)
            self.expiry[claim.snapshot] = parse_rfc3339(claim.expires)

    def finish(self, actor: Actor) -> None:
        """To its end; a refusal is a good end."""
        while not actor.ended:
            self.step(actor)
        if actor.error is not None and not isinstance(actor.error, TorporError | Crash):
            raise actor.error

    def check(self) -> None:
        """The law."""
        objects = self.memory.objects
        for name in [name for name in objects if name.startswith(names.SNAPSHOTS)]:
            snapshot = name[len(names.SNAPSHOTS) :].removesuffix(".json")
            if snapshot not in self.late:
                missing = self._named(objects[name].data, snapshot) - objects.keys()
                assert not missing, f"{snapshot} has a manifest and lacks {missing}"

    def _named(self, data: bytes, snapshot: str) -> frozenset[str]:
        """What a manifest needs. Objects never change, so that each is read once."""
        if data not in self.known:
            found = manifest.decode(self.repository.verify("manifest", data, snapshot), Manifest, snapshot)
            if PACKS + found.index.name not in self.memory.objects:
                return frozenset({PACKS + found.index.name})
            head = heads.head_of(self.repository, found)
            self.known[data] = frozenset({PACKS + found.index.name, *(PACKS + pack.name for pack in head.packs)})
        return self.known[data]

    def end(self, *, read: bool = True) -> None:
        """Let everybody come to an end; then every byte of every snapshot can be read."""
        for actor in self.stepper.actors:
            self.finish(actor)
        self.check()
        for snapshot in self.ids() if read else ():
            if snapshot not in self.late:
                assert receipts.verify(self.repository, snapshot, "full", ignore).damage == {}


@contextmanager
def world(like: World | None = None, *, bare: bool = False) -> Iterator[World]:
    """`bare`: its store has neither conditional puts nor grants of a prefix."""
    with tempfile.TemporaryDirectory() as folder:
        made = World(Path(folder), like, bare=bare)
        try:
            yield made
        finally:
            made.stepper.end()


@contextmanager
def old_world() -> Iterator[World]:
    """Rental 1 still stands on the first snapshot; rental 0 has gone on until none of its own names the first one's pack."""
    with world() as there:
        for _ in range(4):
            there.take(0)
        for between in there.ids()[1:-1]:
            prune.remove(there.repository, between)
        yield there


@cache
def history() -> World:
    """An old world, made once: what is in it is copied, never changed."""
    with old_world() as there:
        return there


SLOTS = ["snapshot 0", "snapshot 1", "snapshot 1", "prune 0", "prune 0", "prune 1", "remove"]
EVENTS = [*["go"] * 8, *["finish"] * 4, *["wait"] * 2, "renew", "crash"]
JUMPS = [1.0, 0.3 * HOUR, claims.LIFETIME - 1, claims.LIFETIME + 1, claims.LIFETIME + claims.SKEW + 1, 23 * HOUR, 25 * HOUR, 25 * HOUR]
GRACES = [prune.GRACE, prune.GRACE, 0.0, 0.0, 0.0, 2 * HOUR]
LENGTH = 45


class Interleaving:
    """Two snapshotters, two pruners, one of them without keys, somebody who removes; who goes on, and by how many operations, is drawn.

    Who has ended begins anew.
    """

    def __init__(self, there: World, data: st.DataObject) -> None:
        self.there, self.data = there, data
        self.actors: dict[str, Actor] = {}
        self.started = 0

    def run(self) -> None:
        for _ in range(LENGTH):
            event = self.data.draw(st.sampled_from(EVENTS))
            if event == "wait":
                self.there.clock.advance(self.data.draw(st.sampled_from(JUMPS)))
            elif event == "renew":
                self.there.renew()
            else:
                count = 100 if event == "finish" else self.data.draw(st.integers(1, 16))
                actor = self._go(self.data.draw(st.sampled_from(SLOTS)), count)
                if event == "crash" and actor is not None and not actor.ended:
                    self._crash(actor)
            self.there.check()

    def _go(self, slot: str, count: int) -> Actor | None:
        """Let whoever stands in this slot do so many operations; the law is looked at after each."""
        actor = self.actors.get(slot)
        if actor is None or actor.ended:
            actor = self._start(slot)
        for _ in range(count):
            if actor is None or actor.ended:
                break
            self.there.step(actor)
            self.there.check()
        return actor

    def _start(self, slot: str) -> Actor | None:
        self.started += 1
        kind, _, number = slot.partition(" ")
        if kind == "snapshot":
            self.actors[slot] = self.there.start_take(int(number), f" {self.started}")
        elif kind == "prune":
            self.actors[slot] = self.there.start_prune(number, self.data.draw(st.sampled_from(GRACES)), keys=number == "0")
        elif found := self.there.ids()[:2]:
            self.actors[slot] = self.there.start_remove(self.data.draw(st.sampled_from(found)))
        return self.actors.get(slot)

    def _crash(self, actor: Actor) -> None:
        if self.data.draw(st.booleans()):
            actor.crash_after = True
            self.there.step(actor)
        self.there.stepper.crash(actor)


def interleave(data: st.DataObject, bare: bool) -> None:
    with world(history(), bare=bare) as there:
        Interleaving(there, data).run()
        there.end()


many = settings(max_examples=15, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("bare", [False, True], ids=["full", "bare"])
@pytest.mark.parametrize("part", range(3))
@many
@given(st.data())
def test_the_law_holds_in_any_order(part: int, bare: bool, data: st.DataObject) -> None:
    """Ninety interleavings together; others in each run."""
    del part
    interleave(data, bare)


def blind(repo: Repository) -> needs.Needed:
    """What is needed, as a prune would have it that does not look at claims."""
    out = needs.Needed()
    for snapshot in catalogue.load_all(repo)[0]:
        out.objects.update(needs.named(repo, snapshot))
    return out


def test_the_model_finds_a_prune_that_is_blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three guards are taken away at once, since each alone holds: the look at claims, and the commit's at marks and at what is there."""
    monkeypatch.setattr(prune, "needed", blind)
    monkeypatch.setattr(marks, "check_unmarked", lambda repo, packs: None)
    monkeypatch.setattr(heads, "check_present", lambda repo, packs: None)
    few = settings(many, max_examples=100, phases=[Phase.generate])
    with pytest.raises(AssertionError, match="has a manifest and lacks"):
        few(given(st.data(), st.just(False))(interleave))()
