"""The only way to a machine's end: a fresh receipt, a final check without changes, a confirmed recovery key."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from torpor.clock import parse_rfc3339, rfc3339
from torpor.control import apart, catalogue, receipts, recoverable
from torpor.control.receipts import Depth, Verified
from torpor.control.repository import Repository, open_repository
from torpor.errors import Damaged, DestroyRefused, HostFailed, NotFound, SourceChanged
from torpor.events import Listener
from torpor.format import crypto
from torpor.format.manifest import FinalCheck, HostProof, Receipt
from torpor.jobs import CheckJob, CheckResult, Scope, SnapshotResult
from torpor.machines.base import Machine, Proof, Status
from torpor.remote.host import Host
from torpor.settings import Settings

LEFT_RUNNING = "The machine was left running."


class Acceptance(msgspec.Struct, frozen=True, kw_only=True):
    """What the owner accepts to lose: problem files by path, and changes that match a pattern."""

    accept: list[str] = msgspec.field(default_factory=list)
    ignore_changes: list[str] = msgspec.field(default_factory=list)


def open_for_destroying(settings: Settings) -> Repository:
    """The repository for the last snapshot of a machine that will be destroyed. Raises `DestroyRefused` if it can't be that.

    It must be there: one that is made for this has a key that nobody has seen, and perhaps is where a typing error points.
    """
    try:
        repository = open_repository(settings)
    except NotFound as error:
        raise DestroyRefused(
            f"{error.what.rstrip('.')}: one that is made now would have a recovery key that nobody has seen.",
            safe=LEFT_RUNNING,
            remedy="Name the right one with --storage or TORPOR_STORAGE; or make it (`torpor snapshot`, `torpor hibernate --keep`), write "
            "down what `torpor keys show` prints, and type it in with `torpor keys confirm`.",
        ) from None
    require_recovery(repository)
    return repository


def require_recovery(repository: Repository) -> None:
    """Raise `DestroyRefused` until somebody has shown that they have the recovery key, and unless it opens the keys in the store."""
    if not repository.encrypted:
        return
    if not repository.recovery_confirmed:
        raise DestroyRefused(
            "The recovery key of this repository was never confirmed; without it, losing this computer would lose the snapshot.",
            safe=LEFT_RUNNING,
            remedy="Write down what `torpor keys show` prints and type it in with `torpor keys confirm` "
            "(unattended: TORPOR_RECOVERY_CONFIRMED=1).",
        )
    recoverable.put_again(repository, only_missing=True)
    why = recoverable.trouble(repository)
    if why:
        raise DestroyRefused(
            f"The recovery key would not bring the keys back from {repository.store.url}: {why}.",
            safe=LEFT_RUNNING,
            remedy=recoverable.REMEDY,
        )


def final_check(
    repository: Repository, host: Host, scope: Scope, state: bytes, snapshot: str, accept: Acceptance, listen: Listener
) -> CheckResult:
    """Ask the host whether anything changed since `snapshot`. The answer is the host's; the receipt says so."""
    lineage = catalogue.load(repository, snapshot).manifest.lineage
    id_key = crypto.id_key(repository.private().private.root, lineage)
    job = CheckJob(repository=repository.id, snapshot=snapshot, scope=scope, state=state, id_key=id_key, ignore=accept.ignore_changes)
    at = repository.clock.now()
    result = host.run(job, listen)
    if not isinstance(result, CheckResult) or result.snapshot != snapshot:
        raise HostFailed("The host answered another job than it was given.")
    result.time = at  # by this clock, and before the host looked: its own clock may be anywhere
    return result


def refused_problems(result: SnapshotResult, check: CheckResult, accept: Acceptance) -> list[str]:
    """Problem files and open files that nobody accepted to lose."""
    counted = [line for line in result.problem_paths if not line.startswith("special: ")]
    lost = sum(count for kind, count in result.problems.items() if kind != "special")
    untold = min(sum(result.problems.values()) - len(result.problem_paths), lost - len(counted))
    if untold > 0:  # a host lists so many and no more; only `all` accepts what nobody has seen
        counted.append(f"not listed: {untold} more files")
    lines = [*counted, *(f"open for writing: {line}" for line in check.open_files), *check.problems]
    return [line for line in dict.fromkeys(lines) if not _accepted(line, accept)]


def _accepted(line: str, accept: Acceptance) -> bool:
    path = line.partition(": ")[2]
    return any(wanted in ("all", path) or path.startswith((wanted.rstrip("/") + "/", wanted + ": ")) for wanted in accept.accept if wanted)


def prove(
    repository: Repository,
    result: SnapshotResult,
    check: CheckResult,
    depth: Depth,
    accept: Acceptance,
    listen: Listener,
    look_again: Callable[[], CheckResult] | None = None,
    exposed_until: float = 0.0,
) -> Verified:
    """Verify the snapshot from outside the host and sign a receipt that carries the host's final check.

    `exposed_until`: as in `Taken`; nothing is proven before. Reading back can take long, so `look_again` asks the host once more when
    it is done; that answer stands in the receipt. Without it `check` does. Raises `DestroyRefused` if problems or changes are left,
    `SourceChanged` if changes came while it was verified, `Damaged` if the store does not hold what it should.
    """
    _refuse_problems(result, check, accept)
    left = exposed_until - repository.clock.now()
    if left > 0:
        raise DestroyRefused(
            f"For {left:.0f} seconds more the host could write over what it put, so that what is verified now proves nothing of then.",
            safe=LEFT_RUNNING,
            remedy="Verify after that. Stores that decide conditional writes need no such wait; `torpor doctor` tells whether yours does.",
        )
    if check.changed:
        raise DestroyRefused(
            f"{check.changed} files changed after the snapshot: {'; '.join(check.changed_paths[:5])}.",
            safe=LEFT_RUNNING,
            remedy="Stop what writes there and hibernate again, or leave them out with --ignore-changes GLOB.",
        )

    def host() -> HostProof:
        last = look_again() if look_again is not None else check
        if last.changed:
            raise changed(last, "while it was verified")
        _refuse_problems(result, last, accept)
        accepted = [*accept.accept, *accept.ignore_changes]
        return HostProof(result.compared, result.rental, FinalCheck(rfc3339(last.time), last.changed, accepted))

    verified = receipts.verify(repository, result.snapshot, "sample" if depth == "presence" else depth, listen, host)
    if verified.damage:
        name, why = next(iter(verified.damage.items()))
        raise Damaged(
            f"{len(verified.damage)} objects of snapshot {result.snapshot} are not what they should be: {name}: {why}.",
            safe=LEFT_RUNNING,
            remedy="Look at the store, then take the snapshot again.",
        )
    return verified


def _refuse_problems(result: SnapshotResult, check: CheckResult, accept: Acceptance) -> None:
    if (check.snapshot, check.rental) != (result.snapshot, result.rental):
        raise DestroyRefused(
            "The final check is of another machine, or of another snapshot.", safe=LEFT_RUNNING, remedy="Hibernate it again."
        )
    left = refused_problems(result, check, accept)
    if left:
        raise DestroyRefused(
            f"{len(left)} files are not in the snapshot as they are: {'; '.join(left[:5])}.",
            safe=LEFT_RUNNING,
            remedy="Close or mend them and hibernate again, or accept their loss one by one with --accept PATH.",
        )


def changed(check: CheckResult, when: str) -> SourceChanged:
    """The error for a workspace that does not hold still."""
    return SourceChanged(
        f"{check.changed} files changed {when}: {'; '.join(check.changed_paths[:5])}.",
        safe=f"{LEFT_RUNNING} The snapshot {check.snapshot} holds them as they were.",
        remedy="Stop what writes there and hibernate again, or leave them out with --ignore-changes GLOB.",
    )


def proof(repository: Repository, machine: Machine, receipt: Receipt) -> Proof:
    """Permission to destroy, from a signed receipt. Raises `DestroyRefused` for any doubt."""
    require_recovery(repository)
    status = machine.status()
    snapshot = catalogue.load(repository, receipt.snapshot)
    stored = [r for r in receipts.load_all(repository, receipt.snapshot) if r == receipt]
    host = receipt.host
    why = ""
    if not stored:
        why = "its receipt is not in the store"
    elif receipt.manifest_sha256 != snapshot.sha256:
        why = "its manifest is not the one that was verified"
    elif receipt.depth not in ("sample", "full"):
        why = "nothing of it was read back"
    elif host is None or host.final_check.changed:
        why = "the machine was not checked for changes"
    elif not host.compared:
        why = "the host did not compare what it encoded"
    elif host.rental != status.rental or not status.rental:
        why = "it is of another machine"
    elif not receipts.is_fresh(repository, receipt) or repository.clock.now() - parse_rfc3339(host.final_check.time) > receipts.FRESH:
        why = "its receipt is older than 15 minutes"
    if why:
        raise DestroyRefused(
            f"Snapshot {receipt.snapshot} does not prove that {machine.address} can go: {why}.",
            safe=LEFT_RUNNING,
            remedy="Hibernate it again.",
        )
    return Proof(machine.address, status.rental, receipt.snapshot, parse_rfc3339(receipt.time) + receipts.FRESH, repository.id)


def refuse_inside(repository: Repository, roots: Sequence[bytes]) -> None:
    """Raise `DestroyRefused` if what a restore needs lies in folders of this computer that are to go."""
    apart.check_going(repository.home, [repository.store.url, *repository.settings.copies], roots)


def destroy(repository: Repository, machine: Machine, receipt: Receipt, roots: Sequence[bytes] = ()) -> Status:
    """Destroy a machine on proof; its status afterwards. `roots`: its folders, if they are of this computer."""
    refuse_inside(repository, roots)
    return machine.destroy(proof(repository, machine, receipt))
