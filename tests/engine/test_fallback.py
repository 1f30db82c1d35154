"""A restore reads a copy where the store fails, midway or from the start; what comes back is exact, and what happened is said."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from tests.engine.lab import same
from tests.engine.twins import Twins
from torpor.control import catalogue, fallback, restores
from torpor.control.repository import open_repository
from torpor.errors import Damaged, NotFound, RollbackSuspected, StorageUnavailable, TorporError
from torpor.events import ignore
from torpor.format import names
from torpor.remote.host import Subprocess
from torpor.settings import load
from torpor.storage.base import Store
from torpor.storage.local import LocalStore
from torpor.storage.memory import MemoryStore
from torpor.storage.transport_file import FileTransport
from torpor.storage.transport_memory import MemoryTransport


@pytest.fixture(params=["memory", "local"])
def twins(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Twins:
    made = Twins(tmp_path, monkeypatch, request.param)
    made.copy()
    return made


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Twins:
    made = Twins(tmp_path, monkeypatch, "memory")
    made.copy()
    return made


def _meddle(patch: pytest.MonkeyPatch, store: Store, act: Callable[[int, str], object], spoil: bool = False) -> list[str]:
    """Call `act` with the number and the name of each of a host's reads from a store, before it; the names. `spoil`: flip a bit after."""
    asked: list[str] = []
    for transport in (MemoryTransport, FileTransport):
        inner = transport.get_into

        def get_into(self: object, call: object, start: int, out: memoryview, inner: Callable[..., None] = inner) -> None:
            mine = call.url.startswith(store.url.rstrip("/") + "/")  # type: ignore[attr-defined]
            if mine:
                asked.append(call.name)  # type: ignore[attr-defined]
                act(len(asked), call.name)  # type: ignore[attr-defined]
            inner(self, call, start, out)
            if mine and spoil and "/index-" not in call.name:  # type: ignore[attr-defined]
                out[len(out) // 2] ^= 1

        patch.setattr(transport, "get_into", get_into)
    return asked


def _says(notes: list[str], store: Store, what: str) -> bool:
    return any(store.url in note and what in note for note in notes)


def test_a_whole_store_needs_no_copy(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _meddle(monkeypatch, twins.other, lambda number, name: None)
    assert twins.restore().notes == []
    assert asked == []


@pytest.mark.parametrize("after", [0, 1, 2, 4])
def test_a_store_that_dies(twins: Twins, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """From its nth request on, the index's among them."""

    def die(number: int, name: str) -> None:
        if number > after:
            raise StorageUnavailable("The store is down.")

    asked = _meddle(monkeypatch, twins.first, die)
    notes = twins.restore().notes
    assert _says(notes, twins.first, "The store is down.")
    assert _says(notes, twins.other, "was read instead")
    assert len(asked) < after + 12  # it is not tried for ever


@pytest.mark.parametrize("which", ["one", "all", "midway"])
def test_a_store_that_loses_packs(twins: Twins, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    packs = twins.packs(twins.first)
    if which == "midway":
        _meddle(monkeypatch, twins.first, lambda number, name: twins.first.delete(packs) if number == 3 else None)
    else:
        twins.first.delete(packs[1:2] if which == "one" else packs)
    assert _says(twins.restore().notes, twins.other, "was read instead")


def test_a_store_that_answers_other_bytes(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    _meddle(monkeypatch, twins.first, lambda number, name: None, spoil=True)
    notes = twins.restore().notes
    assert _says(notes, twins.first, "The seal of chunk")
    assert _says(notes, twins.other, "was read instead")


@pytest.mark.parametrize("part", [0.02, 0.3, 0.9])
def test_bits_that_rotted(twins: Twins, part: float) -> None:
    """In other packs of either store, so that neither is whole."""
    for number, name in enumerate(twins.packs(twins.first)):
        twins.flip((twins.first, twins.other)[number % 2], name, part)
    twins.restore()


def test_what_is_damaged_everywhere_is_damaged(twins: Twins) -> None:
    name = twins.packs(twins.first)[1]
    for store in (twins.first, twins.other):
        twins.flip(store, name, 0.3)
    with pytest.raises(Damaged, match="seal of chunk"):
        twins.restore()


def _other_bytes(data: memoryview, *, key: bytes) -> object:
    """A digest that is wrong for what was read: as if the chunk had decoded to other bytes."""
    return blake3(bytes(data) + b"x", key=key)


def test_a_chunk_with_another_id(memory: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first time its id is compared, it is wrong; then the copy's is taken. No file is made twice, or of the wrong bytes."""
    left = [4]

    def hashed(data: memoryview, *, key: bytes) -> Any:
        left[0] -= 1
        return _other_bytes(data, key=key) if left[0] >= 0 else blake3(data, key=key)

    def pieces(data: memoryview, offsets: Sequence[int], lengths: Sequence[int], key: bytes) -> list[bytes]:
        return [hashed(data[at : at + size], key=key).digest() for at, size in zip(offsets, lengths, strict=True)]

    monkeypatch.setattr("torpor.wake.fetcher.blake3", hashed)
    monkeypatch.setattr("torpor.wake.fetcher.hash_pieces", pieces)
    notes = memory.restore(workers=1).notes
    assert _says(notes, memory.first, "holds other bytes than the index says")


@pytest.mark.parametrize("harm", ["flip", "gone", "cut"])
def test_the_index(twins: Twins, harm: str) -> None:
    name = twins.index(twins.first)
    if harm == "flip":
        twins.flip(twins.first, name, 0.99)
    elif harm == "cut":
        twins.first.put(name, twins.first.get(name)[:-1])
    else:
        twins.first.delete([name])
    assert _says(twins.restore().notes, twins.other, "manifest or index")


def test_the_index_only_on_the_host(memory: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    def act(number: int, name: str) -> None:
        if number == 1:
            memory.flip(memory.first, memory.index(memory.first), 0.5)

    _meddle(monkeypatch, memory.first, act)
    assert _says(memory.restore().notes, memory.other, "was read instead")


def _find(twins: Twins, text: str, home: str = "home", **environment: str) -> tuple[str, str, list[str]]:
    told: list[str] = []
    settings = load({"TORPOR_HOME": str(twins.lab.folder / home), **environment}, twins.first.url)
    repository, found = fallback.find(settings, text, told.append)
    return repository.store.url, found, told


@pytest.mark.parametrize("harm", ["config gone", "config flipped", "manifest gone", "everything"])
@pytest.mark.parametrize("text", ["latest", "id"])
def test_a_store_that_cannot_be_opened(twins: Twins, harm: str, text: str) -> None:
    manifest = names.manifest(twins.snapshot)
    if harm == "config flipped":
        twins.flip(twins.first, names.CONFIG)
    else:
        all_names = [info.name for info in twins.first.list()]
        twins.first.delete({"config gone": [names.CONFIG], "manifest gone": [manifest]}.get(harm, all_names))
    url, found, told = _find(twins, twins.snapshot if text == "id" else text)
    assert (url, found) == (twins.other.url, twins.snapshot)
    assert f"Reading the copy at {twins.other.url}: snapshot {twins.snapshot}, " in told[-1]
    assert told[-1].endswith(" old.")


@pytest.mark.parametrize("harm", ["flip", "gone"])
def test_a_manifest_that_goes_later(twins: Twins, harm: str) -> None:
    if harm == "flip":
        twins.flip(twins.first, names.manifest(twins.snapshot))
    else:
        twins.first.delete([names.manifest(twins.snapshot)])
    out, state = twins.folder / "out", twins.lab.state("b")
    result = restores.restore(twins.lab.repository, twins.lab.host, twins.snapshot, os.fsencode(out), state, restores.Options(), ignore)
    same(twins.root, out)
    assert _says(result.notes, twins.other, "manifest or index")


def test_without_a_copy_the_first_error_is_told(memory: Twins) -> None:
    memory.first.delete([names.CONFIG])
    with pytest.raises(Damaged, match="its configuration was lost"):
        _find(memory, "latest", "another computer")
    url, _, _ = _find(memory, "latest", "another computer", TORPOR_COPIES=memory.other.url, TORPOR_RECOVERY_KEY=memory.lab.recovery_key)
    assert url == memory.other.url


def test_another_repository_is_no_copy(memory: Twins, tmp_path: Path) -> None:
    stranger = MemoryStore()
    open_repository(load({"TORPOR_HOME": str(tmp_path / "stranger")}, stranger.url), create=True)
    memory.first.delete([info.name for info in memory.first.list()])
    memory.other.delete([info.name for info in memory.other.list()])
    with pytest.raises(NotFound, match="no repository at"):
        _find(memory, "latest", TORPOR_COPIES=stranger.url)


def test_a_copy_that_lags_is_not_taken_for_the_newest(memory: Twins) -> None:
    (memory.root / "new").write_text("x")
    newer = memory.lab.take(memory.root).snapshot.id
    memory.first.delete([names.CONFIG])
    with pytest.raises(RollbackSuspected, match=newer):
        _find(memory, "latest")
    url, found, told = _find(memory, memory.snapshot)
    assert (url, found) == (memory.other.url, memory.snapshot)
    assert newer in told[-1]


def test_a_grant_for_the_copy_is_renewed(memory: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that was given requests for two packs at a time asks for the next, for the copy as well."""
    monkeypatch.setattr("torpor.control.granting.PACKS_ASKED", 2)
    monkeypatch.setattr("torpor.wake.run.PACKS_ASKED", 2)
    memory.first.delete(memory.packs(memory.first))
    assert _says(memory.restore().notes, memory.other, "was read instead")


def test_a_host_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twins = Twins(tmp_path, monkeypatch, "local")
    twins.copy()
    twins.first.delete(twins.packs(twins.first)[::2])
    twins.lab.host = Subprocess()
    assert _says(twins.restore().notes, twins.other, "was read instead")


def test_a_cache_costs_no_second_request(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    how: dict[str, Any] = {"cache": os.fsencode(twins.folder / "cache"), "cache_bytes": 1 << 30}
    asked = _meddle(monkeypatch, twins.first, lambda number, name: None)
    first = twins.restore(**how)
    assert (first.cached_bytes, first.fetched_bytes > 0, len(asked) > 3) == (0, True, True)
    asked.clear()
    again = twins.restore(**how)
    assert asked == []
    assert (again.fetched_bytes, again.requests) == (0, 0)
    assert again.cached_bytes >= first.fetched_bytes
    assert again.notes == []


@pytest.mark.parametrize("skilled", [False, True])
def test_a_poisoned_cache(twins: Twins, skilled: bool) -> None:
    """By somebody who knows how a range is kept, too: a seal is not his to make. The store is read instead, and the cache mended."""
    how: dict[str, Any] = {"cache": os.fsencode(twins.folder / "cache"), "cache_bytes": 1 << 30}
    twins.restore(**how)
    for path in (twins.folder / "cache").rglob("*-*"):
        data = bytearray(path.read_bytes()[:-32])
        data[len(data) // 2] ^= 1
        path.write_bytes(data + (blake3(data).digest() if skilled else bytes(32)))
    assert twins.restore(**how).fetched_bytes > 0
    assert twins.restore(**how).requests == 0


def test_a_cache_by_the_environment(memory: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    here = memory.lab.open("home", TORPOR_CACHE=str(memory.folder / "cache"), TORPOR_CACHE_SIZE="100M")
    memory.restore(here)
    assert memory.restore(here).requests == 0
    small = memory.lab.open("home", TORPOR_CACHE=str(memory.folder / "small"), TORPOR_CACHE_SIZE="3M")
    for _ in range(2):
        assert memory.restore(small).requests > 0
    assert sum(path.stat().st_size for path in (memory.folder / "small").rglob("*-*") if path.is_file()) <= 3 << 20


def test_everything_at_once_still_fails_cleanly(memory: Twins) -> None:
    """No place has the pack: the first place's error, and nothing half written is taken for a file."""
    for store in (memory.first, memory.other):
        store.delete(memory.packs(store)[:1])
    with pytest.raises(TorporError):
        memory.restore()
    assert catalogue.ids(memory.lab.repository) == [memory.snapshot]


def test_the_store_of_a_local_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is gone altogether, as an unplugged disk is."""
    twins = Twins(tmp_path, monkeypatch, "local")
    twins.copy()
    (tmp_path / "first").rename(tmp_path / "unplugged")
    assert isinstance(twins.first, LocalStore)
    repository, found = fallback.find(load({"TORPOR_HOME": str(twins.lab.folder / "home")}, twins.first.url), "latest", lambda text: None)
    assert (repository.store.url, found) == (twins.other.url, twins.snapshot)
    twins.restore(repository)
