"""Snapshots, removals and prunes at once, every store operation a place where another may come in, clocks that jump, actors that die.

The one law: a snapshot that has a manifest has all its packs. The only window in which it may not hold is told in docs/format.md §2:
a control side that was held up between its look at its claim and its write until the claim had run out. Its second look ends that.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.properties.tinyhost import TinyHost
from torpor.clock import FakeClock, parse_rfc3339
from torpor.control import catalogue, claims, heads, prune, receipts, repository, snapshots
from torpor.control.repository import Repository
from torpor.errors import ClaimLost, TorporError
from torpor.events import ignore
from torpor.format import manifest, names, recovery
from torpor.format.manifest import Claim
from torpor.jobs import Scope
from torpor.settings import load
from torpor.storage.base import PACKS
from torpor.storage.memory import MemoryStore
from torpor.testing.faults import Crash
from torpor.testing.stepper import Actor, SteppedStore, Stepper

HOUR = 3600.0
SCOPE = Scope(roots=[b"/work"])
JUMPS = [1.0, 60.0, 0.3 * HOUR, claims.LIFETIME - 1, claims.LIFETIME + 1, claims.LIFETIME + claims.SKEW + 1, 23 * HOUR, 25 * HOUR]


class World:
    """One store, two rentals of one lineage, and as many control sides as there are actors, each with a home of its own."""

    def __init__(self, folder: Path, like: World | None = None) -> None:
        self.clock = FakeClock(like.clock.at) if like else FakeClock()
        self.memory = MemoryStore(self.clock)
        self.stepper = Stepper()
        self.store = SteppedStore(self.memory, self.stepper)
        self.folder = folder
        self.late: set[str] = set()  # manifests written after their claim had run out
        if like is not None:
            self.memory.objects.update(like.memory.objects)
            self.key = like.key
            self.hosts = [dataclasses.replace(host, store=self.store, record=list(host.record), journals={}) for host in like.hosts]
            self.repository = self.control("first")
            return
        self.key = ""
        self.repository = self.control("first")
        self.key = recovery.encode(self.repository.private().recovery)
        self.hosts = [TinyHost(self.store), TinyHost(self.store)]
        self.take(0)
        self.hosts[1].restored(self.hosts[0])

    def control(self, name: str) -> Repository:
        """A control side of its own; its store is the one that is stepped through."""
        found = load({"TORPOR_HOME": str(self.folder / name), "TORPOR_RECOVERY_KEY": self.key}, self.memory.url)
        made = repository.open_repository(found, create=not self.key, clock=self.clock)
        made.store = self.store
        return made

    def take(self, number: int, control: Repository | None = None) -> snapshots.Taken:
        self.clock.advance(0.002)  # no two ids of one millisecond
        return snapshots.take(control or self.repository, self.hosts[number], SCOPE, b"", snapshots.Options(), ignore)

    def start_take(self, number: int, name: str = "") -> Actor:
        control = self.control(f"snapshotter {number}{name}")
        return self.stepper.start(f"snapshot {number}", lambda: self.take(number, control))

    def start_prune(self, name: str = "", grace: float = prune.GRACE) -> Actor:
        control = self.control(f"pruner {name}")
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

    def step(self, actor: Actor) -> None:
        """One operation, noting a manifest that comes too late."""
        pending = actor.pending
        if pending is not None and pending[0] == "put" and pending[1].startswith(names.SNAPSHOTS):
            snapshot = pending[1][len(names.SNAPSHOTS) :].removesuffix(".json")
            if self._expired(snapshot):
                self.late.add(snapshot)
        self.stepper.step(actor)

    def _expired(self, snapshot: str) -> bool:
        found = self.memory.objects.get(names.claim(snapshot))
        if found is None:
            return True
        claim = manifest.decode(self.repository.verify("claim", found.data, "claim"), Claim, "claim")
        return parse_rfc3339(claim.expires) <= self.clock.now()

    def finish(self, actor: Actor) -> None:
        """To its end; a refusal is a good end."""
        while not actor.ended:
            self.step(actor)
        if actor.error is not None and not isinstance(actor.error, TorporError | Crash):
            raise actor.error

    def check(self) -> None:
        """The law."""
        for snapshot in self.ids():
            if snapshot in self.late:
                continue
            found = catalogue.load(self.repository, snapshot).manifest
            missing = {PACKS + found.index.name} - self.memory.objects.keys()
            if not missing:
                missing = {PACKS + pack.name for pack in heads.head_of(self.repository, found).packs} - self.memory.objects.keys()
            assert not missing, f"{snapshot} has a manifest and lacks {missing}"

    def end(self, *, read: bool = True) -> None:
        """Let everybody come to an end; then every byte of every snapshot can be read."""
        for actor in self.stepper.actors:
            self.finish(actor)
        self.check()
        for snapshot in self.ids() if read else ():
            if snapshot not in self.late:
                assert receipts.verify(self.repository, snapshot, "full", ignore).damage == {}


@contextmanager
def world(like: World | None = None) -> Iterator[World]:
    with tempfile.TemporaryDirectory() as folder:
        made = World(Path(folder), like)
        try:
            yield made
        finally:
            made.stepper.end()


class Interleavings(RuleBasedStateMachine):
    """Two snapshotters, two pruners, somebody who removes; chosen one operation after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self.folder.name))
        self.actors: dict[str, Actor] = {}
        self.started = 0

    def _free(self, name: str) -> bool:
        actor = self.actors.get(name)
        return actor is None or actor.ended

    def _begin(self, name: str, start: Callable[[], Actor]) -> None:
        if self._free(name):
            self.started += 1
            self.actors[name] = start()

    @rule(number=st.integers(0, 1))
    def snapshot(self, number: int) -> None:
        self._begin(f"snapshot {number}", lambda: self.world.start_take(number, f" {self.started}"))

    @rule(number=st.integers(0, 1), grace=st.sampled_from([prune.GRACE, prune.GRACE, prune.GRACE, 0.0, 5 * HOUR]))
    def prune(self, number: int, grace: float) -> None:
        self._begin(f"prune {number}", lambda: self.world.start_prune(str(number), grace))

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if found := self.world.ids():
            self._begin("remove", lambda: self.world.start_remove(data.draw(st.sampled_from(found))))

    @rule(seconds=st.sampled_from(JUMPS))
    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule()
    def renew(self) -> None:
        self.world.renew()

    def _alive(self) -> list[str]:
        return sorted(name for name, actor in self.actors.items() if not actor.ended)

    @precondition(lambda self: self._alive())
    @rule(data=st.data(), count=st.integers(1, 12))
    def go(self, data: st.DataObject, count: int) -> None:
        actor = self.actors[data.draw(st.sampled_from(self._alive()))]
        for _ in range(count):
            self.world.step(actor)
            self.world.check()

    @precondition(lambda self: self._alive())
    @rule(data=st.data())
    def go_to_the_end(self, data: st.DataObject) -> None:
        self.world.finish(self.actors[data.draw(st.sampled_from(self._alive()))])

    @precondition(lambda self: self._alive())
    @rule(data=st.data(), after=st.booleans())
    def crash(self, data: st.DataObject, after: bool) -> None:
        actor = self.actors[data.draw(st.sampled_from(self._alive()))]
        if after:
            actor.crash_after = True
            self.world.step(actor)
            self.world.stepper.crash(actor)
        else:
            self.world.stepper.crash(actor)

    @invariant()
    def the_law(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        try:
            self.world.end()
        finally:
            self.world.stepper.end()
            self.folder.cleanup()


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=200, stateful_step_count=40, deadline=None, database=None)
