"""Bringing one bundle to a host: the sending end of torpor.remote.receiver."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

from torpor.errors import HostFailed, NoSpace
from torpor.remote.bundle import Bundle
from torpor.remote.hostfacts import Unsuitable
from torpor.ssh.base import Channel, Dropped, Shell, Unreachable
from torpor.ssh.talk import closing

PAUSES = (0.0, 1.0, 4.0, 10.0, 20.0)  # seconds before connecting again, while nothing more arrives
PIECE = 128 * 1024  # bytes
LINES = 1000  # that a login may print before
LINE = 4096  # bytes
SILENCE = 300.0  # seconds; unpacking and a first start on a slow disk are no more
PATIENCE = 60.0  # seconds for the end of a command that has closed its output
_NO_ROOM = (27, 28, 122)  # EFBIG, ENOSPC, EDQUOT of Linux, whatever this computer is
_SAFE = "What arrived is kept there, and no job was started."


class Delivery:
    """`sent`: bytes that went into connections. `python`: the host's, by its path; `base`: its folder for engines."""

    def __init__(self, shell: Shell, python: str, base: str, pause: Callable[[float], None]) -> None:
        self._shell = shell
        self._start = [python, "-I", "-S", "-c", (files("torpor.remote") / "receiver.py").read_text(encoding="utf-8")]
        self._base = base
        self._pause = pause
        self.sent = 0
        self._there = 0  # bytes that the host said it has: what went into a connection may have got nowhere

    def bring(self, what: Bundle, cache: Path, modules: tuple[str, ...], tell: Callable[[int], None]) -> bool:
        """Until the host has it as an engine in which these modules can be imported; False if it had. `tell` hears bytes.

        Raises `NoSpace`, `Unsuitable`, `HostFailed`; `Dropped` or `Unreachable` after some connections that brought nothing further.
        """
        plan = {"base": self._base, "name": what.name, "digest": what.digest, "size": what.size, "start": ["try", *modules]}
        command = shlex.join([*self._start, json.dumps(plan)])
        furthest, idle, damaged, self._there = 0, 0, False, 0
        while True:
            try:
                word, text = self._once(command, what.path(cache), tell)
            except (Dropped, Unreachable):
                if self._there > furthest:
                    furthest, idle = self._there, 0
                if idle == len(PAUSES):
                    raise
                self._pause(PAUSES[idle])
                idle += 1
                continue
            if word != "damaged":
                return _judge(word, text, what)
            if damaged:
                raise HostFailed(
                    "What arrived on the host is not what was sent, twice.",
                    safe="It was deleted there, and no job was started.",
                    remedy="The host's disk or memory is not to be trusted: take another machine.",
                )
            damaged = True

    def _once(self, command: str, path: Path, tell: Callable[[int], None]) -> tuple[str, str]:
        """One connection: the receiver's last word. Raises `Dropped`."""
        channel = self._shell.open(command)
        try:
            with closing(channel, SILENCE):
                word, text = _hear(channel)
            if word == "have":
                have = int(text) if text.isdecimal() else 0
                self._there = max(self._there, have)
                self._send(channel, path, have, tell)
                with closing(channel, SILENCE):
                    word, text = _hear(channel)
            if not word:
                code = channel.wait(PATIENCE)
                if code == 0:  # it saw the end of the stream too early
                    raise Dropped("The connection ended while the engine was sent.", safe=_SAFE, remedy="Run the command again.")
                raise HostFailed(f"The host's Python ended with exit code {code} while it took the engine.", safe=_SAFE)
            return word, text
        finally:
            channel.close()

    def _send(self, channel: Channel, path: Path, have: int, tell: Callable[[int], None]) -> None:
        with suppress(OSError), open(path, "rb") as file:  # if it stopped reading, its last word says why
            tell(have)
            file.seek(have)
            while piece := file.read(PIECE):
                channel.stdin.write(piece)
                channel.stdin.flush()
                self.sent += len(piece)
                tell(len(piece))
            channel.stdin.close()


def _hear(channel: Channel) -> tuple[str, str]:
    """The next word that the receiver says, with its text; empty at the end."""
    for _ in range(LINES):
        line = channel.out.readline(LINE)
        if not line:
            break
        if line.startswith(b"torpor: "):
            word, _, text = line[8:].decode(errors="replace").strip().partition(" ")
            return word, text[:500]
    return "", ""


def _judge(word: str, text: str, what: Bundle) -> bool:
    if word in ("ready", "fresh"):
        return word == "fresh"
    if word == "broken":
        raise Unsuitable(
            f"The engine was brought to the host and does not start there: {text}.",
            safe="It was deleted there, and no job was started.",
            remedy="Look whether programs may run from the user's home folder (a mount with noexec), or take another image.",
        )
    number, _, reason = text.partition(" ")
    if word == "refused" and number.isdecimal() and int(number) in _NO_ROOM:
        raise NoSpace(
            f"The host's disk is full: the engine needs {what.room / 1e6:,.0f} MB below the home folder.",
            safe=_SAFE,
            remedy="Free space there, or take a machine with a larger disk.",
        )
    raise HostFailed(f"The host refused to take the engine: {reason or word}.", safe=_SAFE, remedy="See to the cause, then run it again.")
