"""The laws of retention, for any snapshots and any policy: what always stays, and that more of a policy never keeps less."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torpor.clock import stamp
from torpor.plan.retention import DAY, Candidate, Decision, Policy, decide

NOW = 1_800_000_000.0
many = settings(max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    """Some, of a few workspaces and machines; several of a day, some from a clock that was wrong."""
    found = []
    for number in range(draw(st.integers(0, 14))):
        at = NOW - draw(st.floats(-2, 60)) * DAY
        found.append(
            Candidate(
                f"{stamp(at)}-{number:08x}",
                at,
                draw(st.sampled_from(["one", "two", "three"])),
                draw(st.sampled_from(["a", "b"])),
                draw(st.sampled_from(["", "", "named"])),
                draw(st.booleans()),
                draw(st.sampled_from([False, False, True])),
            )
        )
    return draw(st.permutations(found))


POLICIES = st.builds(
    Policy,
    st.sampled_from([0.0, DAY, 7 * DAY, 30 * DAY]),
    st.integers(0, 4),
    st.booleans(),
    st.integers(0, 4),
    st.integers(0, 4),
    st.sampled_from([None, "a", "b"]),
)


@dataclass
class Outcome:
    decisions: list[Decision]

    @property
    def kept(self) -> set[str]:
        return {decision.snapshot.id for decision in self.decisions if decision.keep}


def outcome(snapshots: list[Candidate], policy: Policy, now: float = NOW) -> Outcome:
    return Outcome(decide(snapshots, policy, now))


def newest(snapshots: list[Candidate]) -> str:
    return max(snapshot.id for snapshot in snapshots)


@many
@given(candidates(), POLICIES)
def test_what_always_stays(snapshots: list[Candidate], policy: Policy) -> None:
    kept = outcome(snapshots, policy).kept
    for lineage in {snapshot.lineage for snapshot in snapshots}:
        mine = [snapshot for snapshot in snapshots if snapshot.lineage == lineage]
        assert newest(mine) in kept
        whole = [snapshot for snapshot in mine if not snapshot.hurt]
        assert not whole or newest(whole) in kept
        proven = [snapshot for snapshot in whole if snapshot.proven]
        assert not proven or newest(proven) in kept


@many
@given(candidates(), POLICIES)
def test_each_is_decided_once_with_a_reason(snapshots: list[Candidate], policy: Policy) -> None:
    decisions = outcome(snapshots, policy).decisions
    assert [decision.snapshot.id for decision in decisions] == sorted(snapshot.id for snapshot in snapshots)
    assert all(decision.why for decision in decisions)


@many
@given(candidates(), POLICIES)
def test_what_is_young_or_of_another_machine_stays(snapshots: list[Candidate], policy: Policy) -> None:
    kept = outcome(snapshots, policy).kept
    for snapshot in snapshots:
        young = NOW - snapshot.at < policy.seconds
        strange = policy.machine not in (None, snapshot.machine)
        assert snapshot.id in kept or not (young or strange or (policy.named and snapshot.name))


@many
@given(candidates(), POLICIES, st.lists(st.floats(0, 1), max_size=20))
def test_new_snapshots_push_nothing_out_but_by_age(snapshots: list[Candidate], policy: Policy, new: list[float]) -> None:
    """Many new ones, whoever made them: what is younger than the policy says stays, and so does the newest that was proven."""
    young = policy._replace(last=0, daily=0, weekly=0)
    before = outcome(snapshots, young)
    more = [Candidate(f"{stamp(NOW + at)}-{number:08x}", NOW + at, "one", "a") for number, at in enumerate(new)]
    after = outcome(snapshots + more, young).kept
    for decision in before.decisions:
        alone = decision.why in ("the newest of its workspace", "the newest of its workspace that is not damaged")
        assert not decision.keep or alone or decision.snapshot.id in after


@many
@given(candidates(), POLICIES, POLICIES)
def test_more_of_a_policy_keeps_no_less(snapshots: list[Candidate], one: Policy, two: Policy) -> None:
    more = Policy(
        max(one.seconds, two.seconds),
        max(one.last, two.last),
        one.named or two.named,
        max(one.daily, two.daily),
        max(one.weekly, two.weekly),
        one.machine,
    )
    assert outcome(snapshots, one).kept <= outcome(snapshots, more).kept


@many
@given(candidates(), POLICIES)
def test_a_second_run_removes_nothing(snapshots: list[Candidate], policy: Policy) -> None:
    left = [decision.snapshot for decision in outcome(snapshots, policy).decisions if decision.keep]
    assert outcome(left, policy).kept == {snapshot.id for snapshot in left}


def test_days_and_weeks() -> None:
    """A year of two snapshots a day: one of each of three days, one of each of four weeks, and the reason says which."""
    snapshots = [Candidate(f"{stamp(NOW - n * DAY / 2)}-{n:08x}", NOW - n * DAY / 2, "one") for n in range(730)]
    decisions = outcome(snapshots, Policy(seconds=0.0, daily=3, weekly=4)).decisions
    kept = [decision for decision in decisions if decision.keep]
    assert [decision.why for decision in kept] == [
        "the newest of its week, 2026 week 52",
        "the newest of its week, 2026 week 53",
        "the newest of its week, 2027 week 01",
        "the newest of its day, 2027-01-13",
        "the newest of its day, 2027-01-14",
        "the newest of its workspace",
    ]
    assert {decision.why for decision in decisions if not decision.keep} == {"older than 0 days"}
