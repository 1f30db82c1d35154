"""How fast a store takes packs and gives them back, by as many requests at once as a job uses, within a few seconds."""

from __future__ import annotations

import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from torpor.control.finding import Check
from torpor.errors import Damaged
from torpor.plan.limits import MIB, SPAN
from torpor.storage.options import Options
from torpor.storage.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torpor.control.trail import Trail

    Work = Callable[[int], list[Callable[[], int]]]

BUSY = 3.0  # seconds after which no other round is begun
LONGEST = 5.0  # seconds that a round may take, by the speed of those before
_OPTIONS = Options(deadline=30.0)


class Step(NamedTuple):
    """One round: `objects` of `size` bytes, all at once."""

    objects: int
    size: int

    @property
    def bytes(self) -> int:
        return self.objects * self.size


# Four times as much a round: a slow link is measured by little, a fast one by much.
REMOTE = (Step(4, MIB), Step(8, 2 * MIB), Step(8, 8 * MIB), Step(8, 32 * MIB), Step(16, 32 * MIB))
HERE = (Step(4, MIB), Step(4, 8 * MIB), Step(4, 32 * MIB))


class Speed(NamedTuple):
    """`rate` in bytes a second, of the fastest of `rounds`; `bytes` of all of them."""

    rate: float
    bytes: int
    rounds: int


def check(trail: Trail) -> Iterator[Check]:
    """Packs go up in rounds that grow; those of the last are read back in pieces, as a wake does it."""
    steps = REMOTE if trail.store.capabilities.presign else HERE
    block = secrets.token_bytes(MIB)
    up, names = _up(trail, steps, block)
    step = steps[up.rounds - 1]
    down = _down(trail, step, names, block)
    figures = {
        "up_mb_per_s": round(up.rate / 1e6, 3), "down_mb_per_s": round(down.rate / 1e6, 3),
        "sent_bytes": float(up.bytes), "received_bytes": float(down.bytes),
    }  # fmt: skip
    text = f"{_rate(up)} up, {_rate(down)} down, by up to {step.objects} objects of {step.size // MIB} MiB at once"
    yield Check("throughput", "ok", text, "", figures)


def _up(trail: Trail, steps: Sequence[Step], block: bytes) -> tuple[Speed, list[str]]:
    """Also the names of the last round's packs."""
    names: list[str] = []

    def puts(number: int) -> list[Callable[[], int]]:
        names[:] = [trail.pack() for _ in range(steps[number].objects)]
        transfer.renew(trail.to_put(names))
        parts = [block] * (steps[number].size // MIB)
        digest = _digest(parts)
        return [partial(_put, transfer, name, parts, digest) for name in names]

    with Transfer(trail.to_put([trail.nothing]), options=_OPTIONS) as transfer:
        return _climb([step.bytes for step in steps], puts, lambda: transfer.sync(names), transfer), names


def _down(trail: Trail, step: Step, names: Sequence[str], block: bytes) -> Speed:
    piece = min(SPAN, step.size)
    pieces = [(name, at) for at in range(0, step.size, piece) for name in names]
    wanted = block * (piece // MIB)
    sizes = [size for size in (4 * MIB * 4**power for power in range(5)) if size < step.bytes] + [step.bytes]
    own = threading.local()

    def read(name: str, at: int) -> int:
        if not hasattr(own, "space"):
            own.space = bytearray(piece)
        transfer.get_into(name, at, memoryview(own.space))
        if own.space != wanted:
            raise Damaged(f"A part of {name} was read back with other bytes than were written.", remedy="Do not use this store.")
        return piece

    with Transfer(trail.to_get(names), options=_OPTIONS) as transfer:
        return _climb(sizes, lambda number: [partial(read, *one) for one in pieces[: -(-sizes[number] // piece)]], lambda: None, transfer)


def _climb(sizes: Sequence[int], work: Work, end: Callable[[], None], transfer: Transfer) -> Speed:
    """Round after round, of about so many bytes each, until it has taken long enough."""
    rate, total, spent, rounds = 0.0, 0, 0.0, 0
    with ThreadPoolExecutor((REMOTE if transfer.remote else HERE)[-1].objects) as pool:
        try:
            for number, size in enumerate(sizes):
                if number and (spent > BUSY or size / rate > LONGEST):
                    break
                tasks = work(number)
                began = time.perf_counter()
                done = sum(pool.map(_call, tasks))
                end()
                took = time.perf_counter() - began
                rate, total, spent, rounds = max(rate, done / took), total + done, spent + took, number + 1
        except BaseException:
            transfer.close()  # those that wait to try again do not
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return Speed(rate, total, rounds)


def _call(task: Callable[[], int]) -> int:
    return task()


def _put(transfer: Transfer, name: str, parts: list[bytes], digest: bytes) -> int:
    return transfer.put(name, parts, digest).size


def _digest(parts: list[bytes]) -> bytes:
    from blake3 import blake3

    digest = blake3()
    for part in parts:
        digest.update(part)
    return digest.digest()


def _rate(speed: Speed) -> str:
    rate = speed.rate / 1e6
    return f"{rate:,.0f} MB/s" if rate >= 100 else f"{rate:.3g} MB/s"
