"""A store that can't keep a host from writing over what it put: nothing is proven before its requests have ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.lab import Lab, write
from torpor.clock import FakeClock
from torpor.control import destroy
from torpor.control.destroy import Acceptance
from torpor.control.granting import BRIEF
from torpor.control.snapshots import Taken
from torpor.errors import DestroyRefused
from torpor.events import ignore
from torpor.jobs import Grant, Scope
from torpor.storage.base import Capabilities, Refused
from torpor.storage.memory import MemoryStore


class Plain(MemoryStore):
    """As S3 is at some services: requests by name, and a second PUT replaces the first."""

    @property
    def capabilities(self) -> Capabilities:
        return super().capabilities._replace(conditional_put=False, prefix_grants=False)


class Deaf(MemoryStore):
    """Its keys can be revoked, but just now it does not answer."""

    def end_grant(self, grant: Grant) -> None:
        del grant
        raise Refused("It does not answer.")


def prove(lab: Lab, source: Path, taken: Taken) -> str:
    scope = Scope(roots=[str(source).encode()])
    accept = Acceptance()
    check = destroy.final_check(lab.repository, lab.host, scope, lab.state("a"), taken.snapshot.id, accept, ignore)
    return destroy.prove(lab.repository, taken.result, check, "full", accept, ignore, exposed_until=taken.exposed_until).snapshot


@pytest.mark.parametrize(("store", "seconds"), [(MemoryStore, 0.0), (Plain, BRIEF)])
def test_it_waits_as_long_as_it_must(tmp_path: Path, store: type[MemoryStore], seconds: float) -> None:
    clock = FakeClock()
    lab = Lab(tmp_path / "lab", clock=clock, store=store(clock))
    write(tmp_path / "source" / "code.py", "print()")
    taken = lab.take(tmp_path / "source", compare=True)
    assert taken.exposed_until == (clock.now() + seconds if seconds else 0.0)
    if seconds:
        clock.advance(seconds - 1)
        with pytest.raises(DestroyRefused, match="write over what it put"):
            prove(lab, tmp_path / "source", taken)
        clock.advance(1)
    assert prove(lab, tmp_path / "source", taken) == taken.snapshot.id


def test_what_can_not_be_taken_back_is_waited_for(tmp_path: Path) -> None:
    clock = FakeClock()
    lab = Lab(tmp_path / "lab", clock=clock, store=Deaf(clock))
    write(tmp_path / "source" / "code.py", "print()")
    taken = lab.take(tmp_path / "source", compare=True)
    assert taken.exposed_until > clock.now() + 3600
