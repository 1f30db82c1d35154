"""A job's grant while it runs: short of names or of time, it gets more from the control side, and nothing that is not its own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from tests.engine.lab import Lab, same, write
from torpor.clock import SYSTEM, FakeClock
from torpor.control.granting import LIFETIME, ForRestore, ForSnapshot
from torpor.errors import HostFailed, StorageUnavailable
from torpor.events import Listener
from torpor.format import names
from torpor.jobs import Ask, Grant, Granter, Job, Request, Result
from torpor.remote.host import Subprocess
from torpor.storage.base import PACKS, Capabilities
from torpor.storage.local import LocalStore
from torpor.storage.memory import MemoryStore
from torpor.wake.run import _places

MIB = 1 << 20
SNAPSHOT, OTHER, ATTEMPT = "20260801T120000000-0a1b2c3d", "20260802T120000000-4e5f6071", "89abcdef"


class Stingy(LocalStore):
    """Grants a few names at a time, for a short time, as stores do that sign each request."""

    few, life = 2, 3600.0
    given: list[Grant]
    ended: list[Grant]

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.given, self.ended = [], []

    def grant_put(self, prefix: str, expires: float, names: Sequence[str] = ()) -> Grant:
        self.given.append(Grant(put={name: self._request("PUT", name) for name in self._below(names)}, expires=self._ends()))
        return self.given[-1]

    def end_grant(self, grant: Grant) -> None:
        self.ended.append(grant)
        raise StorageUnavailable("The store does not answer.")

    def grant_get(self, names: Iterable[str], expires: float) -> Grant:
        return Grant(get={name: self._request("GET", name) for name in self._below(names)}, expires=self._ends())

    def _below(self, names: Iterable[str]) -> list[str]:
        return [name.removeprefix(PACKS) for name in names][: self.few]

    def _request(self, method: str, name: str) -> Request:
        return Request(method, f"{self.url}/{PACKS}{name}")

    def _ends(self) -> float:
        return SYSTEM.now() + self.life


class Counting(Subprocess):
    """The engine in a process of its own; counts what it asks for, and can leave it without an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Ask] = []
        self.answers = 1000

    def run(self, job: Job, listen: Listener, ask: Granter | None = None) -> Result:
        assert ask is not None or job.__class__.__name__ not in ("SnapshotJob", "RestoreJob")

        def counted(wish: Ask) -> Grant:
            self.asked.append(wish)
            if len(self.asked) > self.answers:
                raise StorageUnavailable("The control side cannot sign.", remedy="Run it again.")
            assert ask is not None
            return ask(wish)

        return super().run(job, listen, counted)


@pytest.fixture
def host() -> Counting:
    return Counting()


@pytest.fixture
def lab(tmp_path: Path, host: Counting) -> Lab:
    return Lab(tmp_path / "lab", store=Stingy(str(tmp_path / "store")), host=host)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Some packs of 32 MiB."""
    for number in range(9):
        write(tmp_path / "source" / f"weights-{number}", os.urandom(16 * MIB))
    write(tmp_path / "source" / "code.py", "print()\n")
    return tmp_path / "source"


def stingy(lab: Lab) -> Stingy:
    assert isinstance(lab.repository.store, LocalStore)
    lab.repository.store = store = Stingy(lab.repository.store.url.removeprefix("file://"))
    return store


def test_a_job_asks_for_what_its_grant_lacks(lab: Lab, host: Counting, source: Path, tmp_path: Path) -> None:
    stingy(lab)
    lab.take(source)
    packs = [name for name in lab.objects(PACKS) if names.is_pack(name.removeprefix(PACKS))]
    assert len(packs) > 4
    assert host.asked
    assert all(wish.put and not wish.get for wish in host.asked)
    host.asked.clear()
    lab.restore(tmp_path / "copy")
    same(source, tmp_path / "copy")
    assert host.asked
    assert all(wish.get and not wish.put for wish in host.asked)


def test_a_grant_is_renewed_before_it_ends(lab: Lab, host: Counting, source: Path, tmp_path: Path) -> None:
    store = stingy(lab)
    store.few, store.life = 1000, 0.05
    lab.take(source)
    lab.restore(tmp_path / "copy")
    same(source, tmp_path / "copy")
    assert host.asked


def test_a_job_that_gets_no_more_says_so_and_goes_on_later(lab: Lab, host: Counting, source: Path, tmp_path: Path) -> None:
    stingy(lab)
    host.answers = 1
    with pytest.raises(StorageUnavailable, match="cannot sign") as caught:
        lab.take(source)
    assert caught.value.retryable
    before = lab.objects(PACKS)
    assert before
    host.answers = 1000
    taken = lab.take(source)
    assert set(before) < set(lab.objects(PACKS))
    assert taken.result.new_bytes < taken.result.stored_bytes  # what the first attempt stored was not sent again
    lab.restore(tmp_path / "copy")
    same(source, tmp_path / "copy")


def test_every_grant_to_write_is_taken_back_when_its_job_is_over(lab: Lab, host: Counting, source: Path) -> None:
    """As far as the store can; what it cannot take back ends by itself."""
    store = stingy(lab)
    lab.take(source)
    assert len(store.given) > 1
    assert store.ended == store.given
    write(source / "more", os.urandom(48 * MIB))
    host.answers = 0
    store.few = 1
    with pytest.raises(StorageUnavailable, match="cannot sign"):
        lab.take(source)
    assert store.ended == store.given


@pytest.mark.parametrize(
    "ask",
    [
        Ask(put=[f"{OTHER}/{ATTEMPT}-1"]),
        Ask(put=[f"{SNAPSHOT}/{ATTEMPT}-1", f"{SNAPSHOT}/00000000-1"]),
        Ask(put=[f"{SNAPSHOT}/{ATTEMPT}"]),
        Ask(put=["../config.json"]),
        Ask(get=[f"{SNAPSHOT}/{ATTEMPT}-1"]),
        Ask(put=[f"{SNAPSHOT}/{ATTEMPT}-{number}" for number in range(1001)]),
    ],
    ids=["another snapshot", "another attempt", "no pack", "elsewhere", "reading", "too many"],
)
def test_a_snapshot_gets_nothing_but_its_own(lab: Lab, ask: Ask) -> None:
    with pytest.raises(HostFailed, match="may not have"):
        ForSnapshot(lab.repository, SNAPSHOT, ATTEMPT).more(ask)


def test_a_snapshot_gets_its_own(lab: Lab) -> None:
    stingy(lab).few = 1000
    grants = ForSnapshot(lab.repository, SNAPSHOT, ATTEMPT)
    assert f"{SNAPSHOT}/index-{ATTEMPT}" in grants.first().put
    wanted = [f"{SNAPSHOT}/{ATTEMPT}-500", f"{SNAPSHOT}/index-{ATTEMPT}"]
    assert list(grants.more(Ask(put=wanted)).put) == wanted


def test_a_restore_gets_what_its_snapshot_names(lab: Lab) -> None:
    stingy(lab).few = 1000
    allowed = [f"{SNAPSHOT}/{ATTEMPT}-{number}" for number in range(500)]
    grants = ForRestore(lab.repository, allowed)
    assert list(grants.more(Ask(get=allowed[300:302])).get) == allowed[300:302]
    for ask in (Ask(get=[f"{SNAPSHOT}/{ATTEMPT}-500"]), Ask(put=allowed[:1]), Ask(get=["config.json"])):
        with pytest.raises(HostFailed, match="may not have"):
            grants.more(ask)


def test_what_has_ended_is_forgotten(tmp_path: Path) -> None:
    """A job that asks for weeks costs no memory of all that it was given."""
    clock = FakeClock()
    lab = Lab(tmp_path / "lab", clock=clock, store=MemoryStore(clock))
    ended: list[Grant] = []
    lab.memory.end_grant = ended.append  # type: ignore[assignment, method-assign]
    grants = ForSnapshot(lab.repository, SNAPSHOT, ATTEMPT)
    for number in range(5):
        grants.more(Ask(put=[f"{SNAPSHOT}/{ATTEMPT}-{number}"]))
        clock.advance(LIFETIME / 2)
    grants.end()
    assert len(ended) == 2


class Deaf(LocalStore):
    """Cannot be asked for grants while `deaf`."""

    deaf = True

    def grant_get(self, names: Iterable[str], expires: float) -> Grant:
        if self.deaf:
            raise StorageUnavailable("The store does not answer.")
        return super().grant_get(names, expires)


def test_a_store_that_cannot_be_asked_takes_no_copy_with_it(lab: Lab, tmp_path: Path) -> None:
    """Each place keeps its place in every grant, so that a host takes none for another."""
    name = f"{SNAPSHOT}/{ATTEMPT}-1"
    first, second, third = (Deaf(str(tmp_path / place)) for place in ("first", "second", "third"))
    lab.repository.store = first
    grants = ForRestore(lab.repository, [name], [second, third])
    with pytest.raises(StorageUnavailable, match="does not answer"):
        grants.more(Ask(get=[name]))
    third.deaf = False
    places = [grant.get for grant, _ in _places(grants.more(Ask(get=[name])), None)]
    assert [*map(len, places)] == [0, 0, 1]
    assert places[2][name].url.startswith(third.url)
    first.deaf, third.deaf = False, True
    assert grants.more(Ask(get=[name])).fallback is None


def test_where_a_host_could_write_over_what_was_committed_its_requests_are_brief(lab: Lab) -> None:
    """A store that decides `if_absent` refuses that; another has nothing but the end of a request."""
    ends: list[float] = []

    class Noting(Stingy):
        conditional = True

        @property
        def capabilities(self) -> Capabilities:
            return super().capabilities._replace(conditional_put=self.conditional, prefix_grants=False, presign=True)

        def grant_put(self, prefix: str, expires: float, names: Sequence[str] = ()) -> Grant:
            ends.append(expires - SYSTEM.now())
            return super().grant_put(prefix, expires, names)

    assert isinstance(lab.repository.store, LocalStore)
    lab.repository.store = store = Noting(lab.repository.store.url.removeprefix("file://"))
    ForSnapshot(lab.repository, SNAPSHOT, ATTEMPT).first()
    store.conditional = False
    ForSnapshot(lab.repository, SNAPSHOT, ATTEMPT).first()
    assert 5 * 3600 < ends[0] < 7 * 3600
    assert 300 < ends[1] <= 600
