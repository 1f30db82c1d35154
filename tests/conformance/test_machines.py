"""Every row of the machines' table, held to the shipped suite; and what only a local machine can do wrong."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from torpor.access import Access
from torpor.errors import DestroyRefused, MachineError, TorporError, UsageError
from torpor.machines.base import Ground, Machine
from torpor.machines.local import LocalMachine
from torpor.machines.table import ROWS, is_machine, open_machine, open_provider
from torpor.testing.machine_suite import MachineSuite


class TestLocal(MachineSuite):
    def make(self, name: str) -> Machine:
        return LocalMachine(name, Ground(self.tmp_path / "machines", clock=self.clock))

    def folder(self, machine: Machine) -> Path:
        return Path(os.fsdecode(machine.access().roots[0]))

    def fill(self, machine: Machine) -> None:
        (self.folder(machine) / "folder").mkdir(exist_ok=True)
        (self.folder(machine) / "folder" / "file").write_bytes(b"work of weeks")

    def filled(self, machine: Machine) -> bool:
        return (self.folder(machine) / "folder" / "file").exists()

    def leftovers(self, name: str) -> list[str]:
        found = self.tmp_path / "machines" / name
        return sorted(path.name for path in found.iterdir() if path.name != "machine.json") if found.exists() else []

    @pytest.mark.parametrize("calls", [1, 2])
    def test_a_crash_on_the_way_out(self, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
        self.machine.create()
        self.fill(self.machine)
        proof = self.proof()
        remove = shutil.rmtree
        left = calls

        def crash(path: Any, *arguments: Any) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise OSError("the disk is gone")
            remove(path)

        monkeypatch.setattr(shutil, "rmtree", crash)
        with pytest.raises(OSError, match="the disk is gone"):
            self.machine.destroy(proof)
        assert self.machine.status().state == "destroyed"
        self.clock.advance(10_000)
        assert self.make("gpu-1").destroy(proof).state == "destroyed"
        assert self.leftovers("gpu-1") == []

    def test_a_crash_on_the_way_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def crash(*arguments: Any, **fields: Any) -> None:
            raise OSError("the disk is gone")

        monkeypatch.setattr(LocalMachine, "_write", crash)
        with pytest.raises(OSError, match="the disk is gone"):
            self.machine.create()
        assert self.machine.status().state == "missing"
        monkeypatch.undo()
        assert self.machine.create().state == "running"

    @pytest.mark.parametrize("text", [None, "", "{", "[]", "null", '"running"', "{}", '{"state":"odd"}'])
    def test_papers_that_are_lost(self, text: str | None) -> None:
        """Nobody knows whether it was destroyed, so its workspace is neither removed nor taken for a new one's."""
        self.machine.create()
        self.fill(self.machine)
        workspace = self.folder(self.machine)
        papers = self.tmp_path / "machines/gpu-1/machine.json"
        proof = self.proof()
        papers.unlink()
        if text is not None:
            papers.write_text(text)
        for call in (self.machine.create, self.machine.access, lambda: self.machine.destroy(proof)):
            with pytest.raises((MachineError, DestroyRefused)):
                call()
        assert (workspace / "folder" / "file").read_bytes() == b"work of weeks"

    def test_a_workspace_that_is_a_link_is_not_followed(self) -> None:
        self.machine.create()
        workspace = self.folder(self.machine)
        outside = self.tmp_path / "outside"
        outside.mkdir()
        (outside / "file").write_bytes(b"not its own")
        workspace.rmdir()
        workspace.symlink_to(outside)
        with pytest.raises(OSError, match="symbolic link"):
            self.machine.destroy(self.proof())
        assert (outside / "file").read_bytes() == b"not its own"


ADDRESSES = {
    "local": "local:name",
    "gce": "gce:my-project/us-central1-a/name",
    "ssh": "ssh://me@machine.example:2222/srv/work",
    "vast": "vast:1234567",
}


@pytest.mark.parametrize("scheme", ROWS)
def test_every_row_opens(scheme: str, tmp_path: Path) -> None:
    """Without an account, and nothing is asked."""
    machine = open_machine(ADDRESSES[scheme], Ground(tmp_path))
    assert machine.address == ADDRESSES[scheme]
    assert is_machine(machine.address)
    assert ROWS[scheme].form.startswith(f"{scheme}:")
    assert all((machine.traits.deletes, machine.traits.billed_stopped))


@pytest.mark.parametrize("scheme", [scheme for scheme, row in ROWS.items() if row.provider])
def test_every_provider_opens(scheme: str, tmp_path: Path) -> None:
    """With an account's name alone: nothing is asked."""
    accounts = Access({"GCE_PROJECT": "my-project", "VAST_API_KEY": "x"})
    assert open_provider(scheme, Ground(tmp_path, accounts)).traits == open_machine(ADDRESSES[scheme], Ground(tmp_path)).traits
    with pytest.raises(TorporError) as caught:
        open_provider(scheme, Ground(tmp_path)).rented()
    assert caught.value.remedy


@pytest.mark.parametrize("address", ["", "name", ":name", "local:", "nowhere:name", "/local:x", "local"])
def test_what_is_no_machine(address: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        open_machine(address, Ground(tmp_path))


@pytest.mark.parametrize(
    ("text", "expected"), [("local:x", True), ("local:", True), ("./local:x", False), ("local", False), ("x:y", False)]
)
def test_machines_are_told_from_paths(text: str, expected: bool) -> None:
    assert is_machine(text) is expected
