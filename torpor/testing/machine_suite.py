"""What every machine must do: `torpor.machines.base.Machine`, sentence by sentence.

A kind of machine joins with a subclass that makes one, and has ways to it that do not use it:

    class TestMine(MachineSuite):
        def make(self, name: str) -> Machine: ...
        def fill(self, machine: Machine) -> None: ...
        def filled(self, machine: Machine) -> bool: ...
        def leftovers(self, name: str) -> list[str]: ...

`make` returns a new handle of the machine of that name: two of them are the same machine, as seen by two processes. Every machine takes
its time from `self.clock`. A kind whose machines only an offer makes says in `born` how one is made, and in `named` what its address says;
its second machine of one name has another address than the first.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from torpor.clock import FakeClock
from torpor.errors import DestroyRefused, MachineError, UsageError
from torpor.machines.base import Machine, Proof, Status

SNAPSHOT = "20260801T120000000-0a1b2c3d"
MINUTES = 60.0
BAD_NAMES = ["", ".", "..", "../x", "a/b", "/etc", "-x", ".hidden", "a b", "a\0b", "a\n", "é", "x" * 65, "a:b"]


class MachineSuite:
    clock: FakeClock
    tmp_path: Path

    @abstractmethod
    def make(self, name: str) -> Machine:
        """A handle; `self.tmp_path` is a folder of this test's own."""

    @abstractmethod
    def fill(self, machine: Machine) -> None:
        """Put something into the workspace of a running machine."""

    @abstractmethod
    def filled(self, machine: Machine) -> bool:
        """Whether that is still there."""

    @abstractmethod
    def leftovers(self, name: str) -> list[str]:
        """What a machine that was destroyed would still cost or tell: disks, folders, instances."""

    def born(self, name: str) -> Machine:
        """A new machine of this name, running, and a handle of it."""
        machine = self.make(name)
        machine.create()
        return machine

    def named(self, name: str) -> str:
        """What the address of the machine of this name says after its scheme."""
        return name

    def birth(self) -> Status:
        self.machine = self.born("gpu-1")
        return self.machine.status()

    def around(self) -> AbstractContextManager[object]:
        """What a test of this kind needs around it, such as a service; `self.clock` and `self.tmp_path` are there before."""
        return nullcontext()

    @pytest.fixture(autouse=True)
    def _prepare(self, tmp_path: Path) -> Iterator[None]:
        self.tmp_path = tmp_path
        self.clock = FakeClock()
        with self.around():
            self.machine = self.make("gpu-1")
            yield

    def proof(self, of: Machine | None = None, **changes: Any) -> Proof:
        """A proof for a machine as it is now, or bent."""
        found = of or self.machine
        fields: dict[str, Any] = {
            "machine": found.address,
            "rental": found.status().rental,
            "snapshot": SNAPSHOT,
            "until": self.clock.now() + 15 * MINUTES,
        }
        return Proof(**(fields | changes))

    def runs(self) -> None:
        assert self.machine.status().state == "running"
        assert self.make("gpu-1").status().state == "running"
        assert self.filled(self.machine)

    # create and status

    def test_what_was_never_made(self) -> None:
        status = self.machine.status()
        assert (status.address, status.state, status.rental) == (self.machine.address, "missing", "")
        with pytest.raises(MachineError):
            self.machine.access()
        assert self.leftovers("gpu-1") == []

    def test_create(self) -> None:
        status = self.birth()
        assert status == self.machine.status() == self.make("gpu-1").status()
        assert (status.address, status.state) == (self.machine.address, "running")
        assert len(status.rental) == 32
        assert int(status.rental, 16) >= 0

    def test_create_again_adopts_it(self) -> None:
        first = self.birth()
        self.fill(self.machine)
        for handle in (self.machine, self.make("gpu-1")):
            assert handle.create() == first
            assert self.filled(handle)

    def test_the_address_names_its_kind(self) -> None:
        scheme, _, name = self.machine.address.partition(":")
        assert scheme.isalnum()
        assert name == self.named("gpu-1")

    @pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
    def test_bad_names(self, name: str) -> None:
        with pytest.raises(UsageError):
            self.make(name)

    def test_machines_of_other_names_are_others(self) -> None:
        other = self.born("gpu-2")
        assert self.birth().rental != other.status().rental
        self.fill(self.machine)
        assert not self.filled(other)
        other.destroy(self.proof(other))
        assert other.status().state == "destroyed"
        self.runs()

    # access

    def test_access_while_it_runs(self) -> None:
        self.birth()
        access = self.machine.access()
        assert access == self.make("gpu-1").access()
        assert access.roots
        assert all(os.path.isabs(root) for root in access.roots)
        assert os.path.isabs(access.state) or access.ssh is not None, "only below the home of an SSH user"
        for root in access.roots if os.path.isabs(access.state) else []:
            assert os.path.commonpath([root, access.state]) not in (root, access.state), "records are not part of the workspace"

    def test_no_access_to_what_is_gone(self) -> None:
        self.birth()
        self.machine.destroy(self.proof())
        with pytest.raises(MachineError):
            self.machine.access()

    # destroy

    def test_destroy(self) -> None:
        rental = self.birth().rental
        self.fill(self.machine)
        status = self.machine.destroy(self.proof())
        assert status == self.machine.status() == self.make("gpu-1").status()
        assert status == Status(self.machine.address, "destroyed", rental)
        assert self.leftovers("gpu-1") == []

    def test_destroy_again(self) -> None:
        """A second call finds nothing to do, even after the proof went stale: it is the same end."""
        self.birth()
        proof = self.proof()
        first = self.machine.destroy(proof)
        for handle in (self.machine, self.make("gpu-1")):
            assert handle.destroy(proof) == first
        self.clock.advance(60 * MINUTES)
        assert self.machine.destroy(proof) == first
        assert self.leftovers("gpu-1") == []

    @pytest.mark.parametrize("what", ["another machine", "another rental", "no rental", "stale", "long stale"])
    def test_a_proof_that_is_not_the_right_one(self, what: str) -> None:
        self.birth()
        self.fill(self.machine)
        now = self.clock.now()
        bent: dict[str, dict[str, Any]] = {
            "another machine": {"machine": self.machine.address + "-x"},
            "another rental": {"rental": "0" * 32},
            "no rental": {"rental": ""},
            "stale": {"until": now - 0.001},
            "long stale": {"until": 0.0},
        }
        proof = self.proof(None, **bent[what])
        with pytest.raises(DestroyRefused):
            self.machine.destroy(proof)
        self.runs()

    def test_a_proof_is_good_to_its_last_moment(self) -> None:
        self.birth()
        proof = self.proof()
        self.clock.advance(15 * MINUTES)
        assert self.machine.destroy(proof).state == "destroyed"

    @pytest.mark.parametrize("thing", [None, "yes", 1, True, object()], ids=["none", "yes", "1", "true", "object"])
    def test_without_a_proof(self, thing: Any) -> None:
        self.birth()
        self.fill(self.machine)
        with pytest.raises((DestroyRefused, TypeError, AttributeError)):
            self.machine.destroy(thing)
        self.runs()

    def test_what_was_never_made_is_not_destroyed(self) -> None:
        for rental in ("", "0" * 32):
            with pytest.raises(DestroyRefused):
                self.machine.destroy(self.proof(rental=rental))
        assert self.machine.status().state == "missing"

    # and again

    def test_another_rental_after_it_was_made_anew(self) -> None:
        first = self.birth()
        self.fill(self.machine)
        old = self.proof()
        self.machine.destroy(old)
        second = self.birth()
        assert second.state == "running"
        assert second.rental != first.rental
        assert not self.filled(self.machine)
        self.fill(self.machine)
        with pytest.raises(DestroyRefused):
            self.machine.destroy(old)  # it was for the machine that is gone
        self.runs()
        assert self.machine.destroy(self.proof()) == Status(self.machine.address, "destroyed", second.rental)

    def test_many_lives_leave_nothing(self) -> None:
        seen = set()
        for _ in range(5):
            seen.add(self.birth().rental)
            self.fill(self.machine)
            self.machine.destroy(self.proof())
        assert len(seen) == 5
        assert self.leftovers("gpu-1") == []
