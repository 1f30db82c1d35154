"""Every error torpor raises on purpose, with the exit code a shell sees and whether trying again can help.

    TorporError
    ├── UsageError               2   a wrong argument or setting
    ├── NotFound                10   no such repository, snapshot, source, machine
    ├── KeysMissing             11   the private keys are not here
    ├── Damaged                 12   stored bytes are not what was written
    │   └── RollbackSuspected   21   the newest snapshots of a lineage vanished from the store
    ├── Malformed               13   bytes that break the format: refused, nothing written
    │   └── UnknownVersion      22   written by a newer torpor
    ├── StorageUnavailable      14   the store did not answer, or refused              (retryable)
    ├── TargetNotEmpty          15   the restore target holds other files
    ├── DestroyRefused          16   no fresh proof, so the machine stays
    ├── ClaimLost               17   the claim on a snapshot being made ran out        (retryable)
    ├── SourceChanged           18   the source kept changing while it was proven
    ├── MachineError            19   a machine is not in the state the command needs
    │   └── HookFailed          19   a command of the user's on a machine did not end well
    ├── NoSpace                 20   the disk is full
    ├── HostFailed              23   the host's engine ended without a result          (retryable)
    ├── MissingDependency       24   an optional package is not installed
    └── Interrupted            130   Ctrl-C or SIGTERM

Exit code 0 is success, 1 an error nobody foresaw (a defect), 3 "done, but some files could not be saved as they are".
Each message says what happened; `safe` says what is safe; `remedy` says what to do next.
"""

from __future__ import annotations

EXIT_PROBLEMS = 3


class TorporError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1
    retryable = False

    def __init__(self, what: str, *, safe: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.safe = safe
        self.remedy = remedy

    def __str__(self) -> str:
        return " ".join(part for part in (self.what, self.safe, self.remedy) if part)

    def as_dict(self) -> dict[str, object]:
        """The error as it crosses a process or HTTP boundary."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "safe": self.safe,
            "remedy": self.remedy,
            "exit_code": self.exit_code,
            "retryable": self.retryable,
        }


class UsageError(TorporError):
    exit_code = 2


class NotFound(TorporError):
    exit_code = 10


class KeysMissing(TorporError):
    exit_code = 11


class Damaged(TorporError):
    exit_code = 12


class RollbackSuspected(Damaged):
    exit_code = 21


class Malformed(TorporError):
    exit_code = 13


class UnknownVersion(Malformed):
    exit_code = 22


class StorageUnavailable(TorporError):
    exit_code = 14
    retryable = True


class TargetNotEmpty(TorporError):
    exit_code = 15


class DestroyRefused(TorporError):
    exit_code = 16


class ClaimLost(TorporError):
    exit_code = 17
    retryable = True


class SourceChanged(TorporError):
    exit_code = 18


class MachineError(TorporError):
    exit_code = 19


class HookFailed(MachineError):
    """A hook did not end well, or not in time, or nobody knows."""


class NoSpace(TorporError):
    exit_code = 20


class HostFailed(TorporError):
    exit_code = 23
    retryable = True


class MissingDependency(TorporError):
    exit_code = 24


class Interrupted(TorporError):
    exit_code = 130


def all_errors() -> dict[str, type[TorporError]]:
    """Every class of the tree by name; used to rebuild an error that crossed a process boundary."""
    found: dict[str, type[TorporError]] = {}
    todo: list[type[TorporError]] = [TorporError]
    while todo:
        cls = todo.pop()
        found[cls.__name__] = cls
        todo.extend(cls.__subclasses__())
    return found


def from_dict(data: dict[str, object]) -> TorporError:
    """Rebuild an error from `as_dict`. A class whose module nobody loaded here becomes the one above it that has its exit code."""
    known = all_errors()
    above = {cls.exit_code: cls for cls in known.values() if "exit_code" in vars(cls)}
    code = data.get("exit_code")
    cls = known.get(str(data.get("error"))) or above.get(code if isinstance(code, int) else 0, TorporError)
    return cls(str(data.get("what", "unknown error")), safe=str(data.get("safe", "")), remedy=str(data.get("remedy", "")))
