"""What running commands on a machine means, over SSH or on this computer."""

from __future__ import annotations

from typing import IO, Protocol

import msgspec

from torpor.errors import HostFailed, MachineError


class Dropped(HostFailed):
    """The connection broke while a command ran: what it did is not known. Connecting again may help."""


class Overdue(Dropped):
    """A command ran longer than it may, and was ended."""


class Unreachable(MachineError):
    """Nothing answers at the address, or not within the time given."""

    retryable = True


class HostKeyMismatch(MachineError):
    """Whoever answers at the address is not the machine that was made: another key. Never tried again, never ignored."""


class HostKeyUnknown(MachineError):
    """Nobody has said which key the machine at this address has. Nothing was sent. `key`: what it showed, as `ssh-ed25519 AAAA…`."""

    def __init__(self, what: str, *, safe: str = "", remedy: str = "", key: str = "") -> None:
        super().__init__(what, safe=safe, remedy=remedy)
        self.key = key


class LoginRefused(MachineError):
    """The machine is the right one, and lets none of our keys in. Of one that has just been made, the key may still be on its way."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a machine's SSH server is. `host_key`: its public key as `ssh-ed25519 AAAA…`, pinned; empty: `TORPOR_KNOWN_HOSTS` must know
    it, or what `torpor trust` keeps, or ~/.ssh/known_hosts. `identity`: a file with the private key to log in with; empty:
    `TORPOR_SSH_KEY`, else what the user's agent and ~/.ssh have.

    `others`: addresses to try after the first, in order (of vast.ai: direct first, then the proxy), each with the same key.
    """

    host: str
    port: int = 22
    user: str = "root"
    host_key: str = ""
    identity: str = ""
    others: tuple[tuple[str, int], ...] = ()


class Ran(msgspec.Struct, frozen=True):
    """What a command left: its exit status, and what it said."""

    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        return self.out.decode(errors="replace").strip()


class Channel(Protocol):
    """A running command with its streams. `out.readline()` gives b"" at its end; `close` ends the command's connection, any time."""

    stdin: IO[bytes]
    out: IO[bytes]

    def wait(self, seconds: float) -> int:
        """Its exit status. Raises `Dropped` if the connection ends without one, or the time is over."""

    def close(self) -> None: ...


class Shell(Protocol):
    """Runs commands, each by `sh -c` in a channel of its own. Any thread may call. Connects when first used, and again after a break."""

    def run(self, command: str, stdin: bytes | IO[bytes] = b"", seconds: float = 60.0) -> Ran:
        """Run to the end, with `stdin` streamed in bounded pieces. After `seconds` the command is ended. Of what it says to standard
        error the last 64 KiB are kept.

        Raises `Dropped` (`Overdue` after `seconds`); and, before anything was sent: `Unreachable`, `HostKeyMismatch`,
        `HostKeyUnknown`, `LoginRefused`.
        """

    def open(self, command: str) -> Channel:
        """Start it and talk to it. Its standard error is kept (the last 64 KiB) and shown if it fails."""

    def close(self) -> None:
        """End the connection; a later call opens another."""
