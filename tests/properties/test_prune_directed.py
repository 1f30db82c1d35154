"""The nasty interleavings of snapshot, removal and prune, one by one and in rows: an actor is held up before each of its operations in
turn, whatever can happen meanwhile happens, then it goes on."""

from __future__ import annotations

import pytest

from tests.properties.test_prune_model import HOUR, World, history, world
from torpor.control import claims, prune, receipts
from torpor.errors import ClaimLost, Damaged, UsageError
from torpor.events import ignore
from torpor.format import names
from torpor.testing.stepper import Actor

DEAD = claims.LIFETIME + claims.SKEW + 1  # after this long, nobody respects a claim


@pytest.fixture(scope="module")
def old() -> World:
    return history()


def refusals(actor: Actor) -> type | None:
    return type(actor.error) if actor.error is not None else None


def test_a_commit_just_after_the_sweeps_look(old: World) -> None:
    """The sweep has read claims and manifests, then a snapshot is begun and committed before it deletes."""
    with world(old) as there:
        first = there.ids()[0]
        prune.remove(there.repository, first)
        there.finish(there.start_prune("mark"))
        there.clock.advance(25 * HOUR)
        sweep = there.start_prune("sweep")
        assert there.until(sweep, "delete", "packs/")
        made = there.start_take(1)
        there.finish(made)
        there.check()
        there.finish(sweep)
        there.end()
        assert made.error is None  # the first was gone, so nothing was built on it


def test_grace_zero_just_after_the_marks_look(old: World) -> None:
    """The mark reads claims, a snapshot claims its parent, the parent is removed, the mark reads manifests: it lists what is built on."""
    with world(old) as there:
        first = there.ids()[0]
        pruner = there.start_prune("now", grace=0)
        assert there.until(pruner, "list", names.CLAIMS)
        assert there.until(pruner, "list", names.SNAPSHOTS)
        child = there.start_take(1)
        assert there.until(child, "put", "packs/")
        there.finish(there.start_remove(first))
        there.finish(pruner)
        assert refusals(pruner) is UsageError  # a claim is live by now: the second look sees it
        there.check()
        there.finish(child)
        assert refusals(child) is Damaged
        there.end()
        there.take(1)
        there.end()


def test_a_claim_that_expires_between_check_and_write(old: World) -> None:
    """Held up for more than a day just before its manifest is written: the second look takes it back."""
    with world(old) as there:
        first = there.ids()[0]
        child = there.start_take(1)
        assert there.until(child, "put", names.SNAPSHOTS)
        there.finish(there.start_remove(first))
        there.clock.advance(DEAD)
        there.finish(there.start_prune("mark"))
        there.clock.advance(25 * HOUR)
        there.finish(there.start_prune("sweep"))
        before = there.ids()
        there.step(child)
        assert len(there.late) == 1
        there.finish(child)
        assert refusals(child) is ClaimLost
        assert there.ids() == before
        there.end()
        there.take(1)
        there.end()


@pytest.mark.parametrize("moment", ["put", "get"])
def test_a_claim_that_expires_while_the_manifest_is_written(old: World, moment: str) -> None:
    """In time when it was written; the second look comes too late for the claim, and the manifest goes again, though it was good."""
    with world(old) as there:
        child = there.start_take(1)
        assert there.until(child, "put", names.SNAPSHOTS)
        there.step(child)
        there.clock.advance(claims.LIFETIME + 1)
        there.check()
        there.finish(child)
        assert refusals(child) is ClaimLost
        there.end()


def test_the_one_window(old: World) -> None:
    """Held up for more than a day, and killed between its write and its second look: the manifest stays, and verify tells its worth."""
    with world(old) as there:
        first = there.ids()[0]
        child = there.start_take(1)
        assert there.until(child, "put", names.SNAPSHOTS)
        there.finish(there.start_remove(first))
        there.clock.advance(DEAD)
        there.finish(there.start_prune("mark"))
        there.clock.advance(25 * HOUR)
        there.finish(there.start_prune("sweep"))
        child.crash_after = True
        there.step(child)
        there.stepper.crash(child)
        (late,) = there.late
        assert late in there.ids()
        assert receipts.verify(there.repository, late, "presence", ignore).damage
        there.check()  # the others are whole


def test_a_dead_attempt_is_swept_while_it_is_continued(old: World) -> None:
    with world(old) as there:
        dead = there.start_take(1)
        assert there.until(dead, "put", names.SNAPSHOTS)
        there.stepper.crash(dead)
        there.clock.advance(DEAD)
        there.finish(there.start_prune("mark"))
        there.clock.advance(25 * HOUR)
        sweep = there.start_prune("sweep")
        assert there.until(sweep, "delete", "packs/")
        again = there.start_take(1)
        assert there.until(again, "put", "packs/")  # it has seen the dead attempt's packs
        there.finish(sweep)
        there.finish(again)
        assert again.error is None  # what stands in a mark is not built on
        there.end()


def test_a_dead_attempt_is_continued_before_the_sweep_looks(old: World) -> None:
    with world(old) as there:
        dead = there.start_take(1)
        assert there.until(dead, "put", names.SNAPSHOTS)
        there.stepper.crash(dead)
        kept = {name for name in there.memory.objects if name.startswith("packs/")}
        again = there.start_take(1)
        assert there.until(again, "put", "packs/")
        there.clock.advance(60)
        there.finish(there.start_prune("one"))
        there.finish(again)
        assert again.error is None
        assert kept <= there.memory.objects.keys()
        there.end()


def test_a_new_claim_is_not_taken_for_a_dead_one(old: World) -> None:
    """A claim that appears while prune looks for claims that ran out."""
    with world(old) as there:
        dead = there.start_take(0)
        assert there.until(dead, "put", names.SNAPSHOTS)
        there.stepper.crash(dead)
        there.clock.advance(DEAD)
        for steps in range(60):
            pruner = there.start_prune(f"{steps}")
            for _ in range(steps):
                there.step(pruner)
            child = there.start_take(1)
            assert there.until(child, "put", names.SNAPSHOTS)
            there.finish(pruner)
            there.finish(child)
            assert child.error is None, f"after {steps} steps: {child.error}"
            if pruner.steps < steps:
                break
        there.end()


# In rows.


def hold_up(there: World, actor: Actor, steps: int) -> bool:
    for _ in range(steps):
        there.step(actor)
    return not actor.ended


@pytest.mark.parametrize("first_wait", [0.0, claims.LIFETIME + 1, DEAD])
@pytest.mark.parametrize("second_wait", [0.0, 25 * HOUR])
@pytest.mark.parametrize(("grace", "bare"), [(prune.GRACE, False), (prune.GRACE, True), (0.0, True)])
def test_a_snapshot_held_up_anywhere(old: World, first_wait: float, second_wait: float, grace: float, bare: bool) -> None:
    """Before each operation of a snapshot: its parent is removed, time passes, all is pruned, time passes, all is pruned again."""
    steps, outcomes = 0, set()
    while True:
        with world(old, bare=bare) as there:
            first = there.ids()[0]
            child = there.start_take(1)
            if not hold_up(there, child, steps):
                break
            there.finish(there.start_remove(first))
            there.clock.advance(first_wait)
            there.finish(there.start_prune("one", grace))
            there.check()
            there.clock.advance(second_wait)
            there.finish(there.start_prune("two", grace))
            there.check()
            there.finish(child)
            outcomes.add(refusals(child))
            there.end(read=False)
        steps += 1
    assert steps > 20
    assert None in outcomes


@pytest.mark.parametrize("grace", [prune.GRACE, 0.0])
@pytest.mark.parametrize("removed", ["before", "meanwhile"])
@pytest.mark.parametrize("dead", [False, True])
def test_a_prune_held_up_anywhere(old: World, grace: float, removed: str, dead: bool) -> None:
    """Before each operation of a prune that has marks to sweep: a whole snapshot is made, on what the prune may be deleting."""
    steps, deleted = 0, 0
    while True:
        with world(old) as there:
            first = there.ids()[0]
            if dead:
                attempt = there.start_take(1, " dead")
                assert there.until(attempt, "put", names.SNAPSHOTS)
                there.stepper.crash(attempt)
                there.clock.advance(DEAD)
            if removed == "before":
                there.finish(there.start_remove(first))
            there.finish(there.start_prune("mark"))
            there.clock.advance(25 * HOUR)
            size = len(there.memory.objects)
            pruner = there.start_prune("sweep", grace)
            if not hold_up(there, pruner, steps):
                break
            child = there.start_take(1)
            if removed == "meanwhile":
                assert there.until(child, "put", "packs/")
                there.finish(there.start_remove(first))
            there.finish(child)
            there.check()
            there.finish(pruner)
            there.end(read=False)
            deleted += size - len(there.memory.objects)
        steps += 1
    assert steps > 10


@pytest.mark.parametrize("wait", [0.0, DEAD])
def test_both_held_up_anywhere(old: World, wait: float) -> None:
    """A snapshot stands before one operation, its claim runs out, a prune stands before one of its own; the one ends, then the other."""
    seen = set()
    for steps in range(0, 40, 3):
        for later in range(0, 40, 3):
            with world(old) as there:
                first = there.ids()[0]
                child = there.start_take(1)
                held = hold_up(there, child, steps)
                there.finish(there.start_remove(first))
                there.clock.advance(wait)
                there.finish(there.start_prune("mark"))
                there.clock.advance(25 * HOUR if wait else 0)
                pruner = there.start_prune("sweep", prune.GRACE if wait else 0.0)
                if not (hold_up(there, pruner, later) and held):
                    break
                there.finish(child)
                there.check()
                there.finish(pruner)
                there.end(read=False)
                seen.add(refusals(child))
    assert None in seen
    assert len(seen) > (1 if wait else 0)


def test_a_removal_in_pieces(old: World) -> None:
    """Held up anywhere, or killed there: a snapshot is whole or gone, and no alarm is raised over it."""
    for kill in (False, True):
        steps = 0
        while True:
            with world(old) as there:
                first = there.ids()[0]
                remover = there.start_remove(first)
                if not hold_up(there, remover, steps):
                    break
                if kill:
                    there.stepper.crash(remover)
                child = there.start_take(1)
                there.finish(child)
                there.check()
                there.finish(remover)
                prune.remove(there.repository, first)  # again, or what is left of it
                assert first not in there.ids()
                there.end(read=False)
                there.take(0)
                there.take(1)
            steps += 1
        assert steps > 3
