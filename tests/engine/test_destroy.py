"""Nothing is destroyed but on proof: fresh, of this very machine and snapshot, read back, compared, with the recovery key confirmed."""

from __future__ import annotations

import ast
import os
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.architecture.house import ROOT, files
from tests.engine.lab import Lab, same, write
from torpor.clock import FakeClock, rfc3339
from torpor.control import destroy, keys, receipts, snapshots
from torpor.control.destroy import Acceptance
from torpor.control.snapshots import Taken
from torpor.errors import Damaged, DestroyRefused, HostFailed, SourceChanged, TorporError
from torpor.events import ignore
from torpor.format import recovery
from torpor.format.manifest import FinalCheck, HostProof, Receipt
from torpor.jobs import CheckResult, Scope
from torpor.machines.base import Ground, Proof
from torpor.machines.local import LocalMachine
from torpor.machines.table import ROWS
from torpor.storage.memory import MemoryStore

NONE = Acceptance()


@dataclass
class Yard:
    """A machine with a workspace, hibernated up to the point where it could be destroyed."""

    lab: Lab
    machine: LocalMachine
    taken: Taken
    clock: FakeClock

    def scope(self) -> Scope:
        return Scope(roots=self.machine.access().roots)

    def check(self, accept: Acceptance = NONE) -> CheckResult:
        state = self.machine.access().state
        return destroy.final_check(self.lab.repository, self.lab.host, self.scope(), state, self.taken.snapshot.id, accept, ignore)

    def prove(self, check: CheckResult | None = None, depth: receipts.Depth = "sample", accept: Acceptance = NONE) -> Receipt:
        found = destroy.prove(self.lab.repository, self.taken.result, check or self.check(accept), depth, accept, ignore)
        assert found.receipt is not None
        return found.receipt

    def destroy(self, receipt: Receipt) -> str:
        return destroy.destroy(self.lab.repository, self.machine, receipt).state

    def refused(self, receipt: Receipt, why: str) -> None:
        with pytest.raises(DestroyRefused, match=why):
            self.destroy(receipt)
        self.runs()

    def runs(self) -> None:
        assert self.machine.status().state == "running"
        assert (self.machine.workspace / "code.py").read_bytes() == b"print('here')\n"

    def confirm(self) -> None:
        repo = self.lab.repository
        repo.keys = keys.confirm(repo.home, repo.private(), recovery.encode(repo.private().recovery), repo.settings.passphrase)


def yard(folder: Path, *, confirmed: bool = True, **options: Any) -> Yard:
    clock = FakeClock()
    lab = Lab(folder / "lab", clock=clock, store=MemoryStore(clock))
    machine = LocalMachine("gpu-1", Ground(folder / "machines", clock=clock))
    machine.create()
    write(machine.workspace / "code.py", "print('here')\n")
    write(machine.workspace / "model", os.urandom(3 << 20))
    made = Yard(lab, machine, take(lab, machine, **options), clock)
    if confirmed:
        made.confirm()
    return made


def take(lab: Lab, machine: LocalMachine, **options: Any) -> Taken:
    access = machine.access()
    chosen = snapshots.Options(**{"machine": machine.address, "compare": True, **options})
    return snapshots.take(lab.repository, lab.host, Scope(roots=access.roots), access.state, chosen, ignore)


def test_on_proof_it_goes_and_comes_back(tmp_path: Path) -> None:
    there = yard(tmp_path)
    shutil.copytree(there.machine.workspace, tmp_path / "copy", copy_function=partial(shutil.copy2))
    assert there.destroy(there.prove()) == "destroyed"
    assert not there.machine.workspace.exists()
    assert not there.machine.state_folder.exists()
    there.lab.restore(tmp_path / "back")
    same(tmp_path / "copy", tmp_path / "back", ignore=("",))


def test_not_before_the_recovery_key_was_shown(tmp_path: Path) -> None:
    there = yard(tmp_path, confirmed=False)
    receipt = there.prove()
    there.refused(receipt, "recovery key")
    with pytest.raises(TorporError):
        keys.confirm(
            there.lab.repository.home, there.lab.repository.private(), "torpor1-" + "0" * 36, there.lab.repository.settings.passphrase
        )
    there.refused(receipt, "recovery key")
    there.confirm()
    assert there.destroy(receipt) == "destroyed"


@pytest.mark.parametrize(("seconds", "allowed"), [(0, True), (899, True), (901, False), (960, False), (-60, False), (10**9, False)])
def test_only_while_it_is_fresh(tmp_path: Path, seconds: float, allowed: bool) -> None:
    there = yard(tmp_path)
    receipt = there.prove()
    there.clock.advance(seconds)
    if allowed:
        assert there.destroy(receipt) == "destroyed"
    else:
        there.refused(receipt, "older than 15 minutes")


def test_a_proof_goes_stale_on_its_way(tmp_path: Path) -> None:
    there = yard(tmp_path)
    proof = destroy.proof(there.lab.repository, there.machine, there.prove())
    there.clock.advance(901)
    with pytest.raises(DestroyRefused, match="gone stale"):
        there.machine.destroy(proof)
    there.runs()


@pytest.mark.parametrize("ahead", [-(10**8), -3600, 3600, 10**8, float("inf"), float("nan")])
def test_the_hosts_clock_decides_nothing(tmp_path: Path, ahead: float) -> None:
    """An old look does not pass for a new one because a host's clock is ahead."""
    there = yard(tmp_path)
    true = there.lab.host

    class Wrong:
        def run(self, job: Any, listen: Any, ask: Any = None) -> Any:
            result = true.run(job, listen, ask)
            if isinstance(result, CheckResult):
                result.time += ahead
            return result

    there.lab.host = Wrong()
    old = there.check()
    there.clock.advance(1000)
    there.refused(there.prove(old), "older than 15 minutes")
    assert there.destroy(there.prove()) == "destroyed"


def sign(there: Yard, receipt: Receipt) -> Receipt:
    """A receipt that the control side's key signs, whatever it says."""
    name = f"receipts/{receipt.snapshot}/20270115T080000999.json"
    there.lab.store.put(name, there.lab.repository.sign("receipt", receipt))
    return receipt


def test_receipts_that_prove_nothing(tmp_path: Path) -> None:
    there = yard(tmp_path)
    good = there.prove()
    change = partial(msgspec.structs.replace, good)
    assert good.host is not None
    proof = partial(msgspec.structs.replace, good.host)
    check = partial(msgspec.structs.replace, good.host.final_check)
    there.refused(change(files=good.files + 1), "not in the store")
    there.refused(change(depth="full"), "not in the store")
    there.lab.verify(good.snapshot, "presence")
    other = take(there.lab, there.machine)
    for receipt, why in [
        (change(depth="presence"), "nothing of it was read back"),
        (change(depth="everything"), "nothing of it was read back"),
        (change(manifest_sha256="0" * 64), "manifest is not the one"),
        (change(snapshot=other.snapshot.id), "manifest is not the one"),
        (change(host=None), "not checked for changes"),
        (change(host=proof(final_check=check(changed=1))), "not checked for changes"),
        (change(host=proof(compared=False)), "did not compare"),
        (change(host=proof(rental="0" * 32)), "of another machine"),
        (change(host=proof(rental="")), "of another machine"),
        (change(time=rfc3339(there.clock.now() + 3600)), "older than"),
        (change(host=proof(final_check=check(time=rfc3339(there.clock.now() - 1000)))), "older than"),
    ]:
        there.refused(sign(there, receipt), why)
    assert there.destroy(good) == "destroyed"


def test_a_receipt_that_was_removed(tmp_path: Path) -> None:
    there = yard(tmp_path)
    receipt = there.prove()
    there.lab.store.delete(there.lab.objects("receipts/"))
    there.refused(receipt, "not in the store")


def test_a_snapshot_that_was_removed(tmp_path: Path) -> None:
    there = yard(tmp_path)
    receipt = there.prove()
    there.lab.remove(receipt.snapshot)
    with pytest.raises(TorporError):
        there.destroy(receipt)
    there.runs()


def test_another_machine_of_the_same_name(tmp_path: Path) -> None:
    there = yard(tmp_path)
    receipt = there.prove()
    assert there.destroy(receipt) == "destroyed"
    there.machine.create()
    write(there.machine.workspace / "code.py", "print('here')\n")
    there.refused(receipt, "another machine")
    old = Proof(there.machine.address, receipt.host.rental if receipt.host else "", receipt.snapshot, there.clock.now() + 900)
    with pytest.raises(DestroyRefused):
        there.machine.destroy(old)
    there.runs()


def test_a_machine_that_lost_its_papers_is_not_destroyed(tmp_path: Path) -> None:
    """Without a rental there is nothing that a proof could be of, and nothing makes room for a new machine."""
    there = yard(tmp_path)
    receipt = there.prove()
    os.unlink(tmp_path / "machines/gpu-1/machine.json")
    for host in (receipt.host, HostProof(True, "", FinalCheck(receipt.time, 0))):
        with pytest.raises(DestroyRefused, match="another machine"):
            there.destroy(sign(there, msgspec.structs.replace(receipt, host=host)))
    with pytest.raises(TorporError):
        there.machine.create()
    assert (there.machine.workspace / "code.py").exists()


def test_changes_after_the_snapshot(tmp_path: Path) -> None:
    there = yard(tmp_path)
    write(there.machine.workspace / "new", b"not saved")
    check = there.check()
    assert check.changed
    with pytest.raises(DestroyRefused, match="changed after the snapshot"):
        there.prove(check)
    assert there.lab.objects("receipts/") == {}
    there.runs()


def test_changes_while_it_was_verified(tmp_path: Path) -> None:
    there = yard(tmp_path)

    def look() -> CheckResult:
        write(there.machine.workspace / "new", b"not saved")
        return there.check()

    with pytest.raises(SourceChanged):
        destroy.prove(there.lab.repository, there.taken.result, there.check(), "full", NONE, ignore, look)
    assert there.lab.objects("receipts/") == {}
    there.runs()


def test_an_open_file(tmp_path: Path) -> None:
    there = yard(tmp_path)
    check = there.check()
    check.open_files = [f"{there.machine.workspace}/model: python (4242)"]
    with pytest.raises(DestroyRefused, match="open for writing"):
        there.prove(check)
    accepted = Acceptance(accept=[f"{there.machine.workspace}/model"])
    assert there.destroy(there.prove(check, accept=accepted)) == "destroyed"


@pytest.mark.parametrize(
    ("paths", "count", "accept", "allowed"),
    [
        (["unreadable: /w/secret"], 1, [], False),
        (["unreadable: /w/secret"], 1, ["/w/other"], False),
        (["unreadable: /w/secret"], 1, ["/w/sec"], False),
        (["unreadable: /w/secret"], 1, [""], False),
        (["unreadable: /w/secret"], 1, ["/w/secret"], True),
        (["unreadable: /w/a/b", "torn: /w/a/c"], 2, ["/w/a"], True),
        (["unreadable: /w/a/b", "torn: /w/b"], 2, ["/w/a"], False),
        (["special: /w/fifo"], 1, [], True),
        (["torn: /w/log"], 1, ["all"], True),
        ([f"unreadable: /w/a/{number}" for number in range(1000)], 1500, ["/w/a"], False),
        ([f"unreadable: /w/a/{number}" for number in range(1000)], 1500, ["all"], True),
    ],
)  # fmt: skip
def test_problems_that_nobody_accepted(tmp_path: Path, paths: list[str], count: int, accept: list[str], allowed: bool) -> None:
    there = yard(tmp_path)
    there.taken.result.problem_paths, there.taken.result.problems = paths, {"unreadable": count}
    chosen = Acceptance(accept=accept)
    if allowed:
        assert there.destroy(there.prove(accept=chosen)) == "destroyed"
    else:
        with pytest.raises(DestroyRefused, match="not in the snapshot as they are"):
            there.prove(accept=chosen)
        there.runs()


def test_a_snapshot_that_was_not_compared(tmp_path: Path) -> None:
    there = yard(tmp_path, compare=False)
    there.refused(there.prove(), "did not compare")


@pytest.mark.parametrize("field", ["snapshot", "rental"])
def test_a_check_of_something_else(tmp_path: Path, field: str) -> None:
    there = yard(tmp_path)
    check = there.check()
    setattr(check, field, "0" * 32)
    with pytest.raises(DestroyRefused, match="another"):
        there.prove(check)


def test_a_host_that_answers_for_another_snapshot(tmp_path: Path) -> None:
    there = yard(tmp_path)
    answer = there.check()
    answer.snapshot = "20270101T000000000-00000000"

    class Other:
        def run(self, job: Any, listen: Any, ask: Any = None) -> Any:
            return answer

    there.lab.host = Other()
    with pytest.raises(HostFailed):
        there.check()


def test_a_store_that_lost_a_pack(tmp_path: Path) -> None:
    there = yard(tmp_path)
    pack = next(name for name in there.lab.objects("packs/") if "/index-" not in name)
    data = bytearray(there.lab.memory.objects[pack].data)
    data[-1] ^= 1
    there.lab.memory.objects[pack] = there.lab.memory.objects[pack]._replace(data=bytes(data))
    with pytest.raises(Damaged, match=pack):
        there.prove()
    del there.lab.memory.objects[pack]
    with pytest.raises(Damaged, match="missing"):
        there.prove()
    there.runs()


def test_asked_for_presence_it_reads_back_all_the_same(tmp_path: Path) -> None:
    there = yard(tmp_path)
    receipt = there.prove(depth="presence")
    assert receipt.depth == "sample"
    assert receipt.read_packs


# The machine's side.


def test_without_a_proof_there_is_no_way(tmp_path: Path) -> None:
    there = yard(tmp_path)
    for thing in (None, "proof", there.prove(), object()):
        with pytest.raises((TypeError, AttributeError, DestroyRefused)):
            there.machine.destroy(thing)  # type: ignore[arg-type]
        there.runs()
    with pytest.raises(TypeError):
        there.machine.destroy()  # type: ignore[call-arg]
    there.runs()


@pytest.mark.parametrize("fails", [1, 2])
def test_a_crash_half_way_is_finished_by_the_next_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int) -> None:
    there = yard(tmp_path)
    receipt = there.prove()
    remove, calls = shutil.rmtree, 0

    def crash(path: Any, *arguments: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == fails:
            os.unlink(there.machine.workspace / "model") if fails == 1 else None
            raise KeyboardInterrupt
        remove(path, *arguments, **options)

    monkeypatch.setattr(shutil, "rmtree", crash)
    with pytest.raises(KeyboardInterrupt):
        there.destroy(receipt)
    assert there.machine.status().state == "destroyed"
    with pytest.raises(TorporError):
        there.machine.access()  # half a workspace is never taken for one
    assert there.destroy(receipt) == "destroyed"
    assert there.destroy(receipt) == "destroyed"
    assert not there.machine.workspace.exists()
    assert not there.machine.state_folder.exists()


def test_only_control_destroy_makes_a_proof() -> None:
    """Whoever could make one could destroy without the checks above; only leases give up what nobody had."""
    makers: dict[str, set[str]] = {"Proof": set(), "Unused": set()}
    sources = [path for path in files("torpor", "flows", "tasks") if path.suffix == ".py" and "testing" not in path.parts]
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            made = ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""
            if made in makers:
                makers[made].add(str(path.relative_to(ROOT)))
    assert makers == {"Proof": {"torpor/control/destroy.py"}, "Unused": {"torpor/control/leases.py"}}
    importers = {
        str(path.relative_to(ROOT))
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and any(alias.name in makers for alias in node.names)
    }
    control = {"torpor/control/destroy.py", "torpor/control/leases.py"}
    assert importers - control <= {f"{row.module.replace('.', '/')}.py" for row in ROWS.values()}
