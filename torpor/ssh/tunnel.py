"""A reverse tunnel: a port on a machine's loopback that leads to one on ours, by the OpenSSH program."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO

from torpor.access import Access
from torpor.errors import HostFailed, MachineError, TorporError
from torpor.ssh.base import HostKeyMismatch, LoginRefused, Target, Unreachable
from torpor.ssh.defaults import defaults
from torpor.ssh.openssh import OpenSsh

_READY = b"torpor-tunnel-ready"
_PORT = re.compile(rb"^Allocated port (\d+) for remote forward")
_STAYS = f"exec sh -c 'echo {_READY.decode()} $PPID; exec cat >/dev/null'"  # ends with us: a tunnel that nobody holds is gone
_FREE = "exec sh -c 'read name </proc/{0}/comm && case $name in sshd*) kill {0} ;; esac'"
_BEGIN = 40.0  # seconds
_AGAIN = 3.0  # seconds between two attempts to open it again


class PortRefused(MachineError):
    """The machine does not give that port: another has it (for a while, the end of a connection that broke), or it forwards nothing."""

    retryable = True


class Tunnel:
    """`127.0.0.1:<port>` on the machine leads to `127.0.0.1:here`. It breaks with its connection, and `open` makes it anew.

    `port`: the one on the machine; 0 before it was first opened, and then the same each time.
    """

    def __init__(self, target: Target, here: int, *, identity: str = "", known_hosts: Sequence[Path] = (), own: str = "") -> None:
        self._target = target
        self._here = here
        self._identity = identity
        self._own = own
        self._files = list(known_hosts)
        self._program: OpenSsh | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._threads: list[threading.Thread] = []
        self._news = threading.Condition()
        self._said: list[bytes] = []
        self._ready = False
        self._open = 0  # of its two streams
        self._peer = ""  # the server's process of the tunnel that stood last
        self.port = 0

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None and self._threads[0].is_alive()  # its output ends first

    def open(self, port: int = 0) -> int:
        """Open it, or open it again after a break; the port on the machine. `port`: the one to ask for, of an earlier process's.

        Raises `PortRefused`, `Unreachable`, `HostKeyMismatch`, `HostKeyUnknown`, `LoginRefused`.
        """
        if self.alive:
            return self.port
        self.port = self.port or port
        failure: Unreachable | None = None
        for address in ((self._target.host, self._target.port), *self._target.others):
            self.close()
            try:
                try:
                    self._start(address)
                except PortRefused:
                    if not self._free(address):
                        raise
                    self._start(address)
            except Unreachable as error:
                failure = failure or error
            except BaseException:
                self.close()
                raise
            else:
                return self.port
        self.close()
        raise failure or HostFailed("There is no address to open a tunnel to.")

    def wait(self, seconds: float) -> bool:
        """Wait for it to break; whether it did."""
        if self._process is not None and self._threads:
            self._threads[0].join(seconds)
        return not self.alive

    def abort(self) -> None:
        """Break it, from any thread."""
        process = self._process
        if process is not None:
            process.terminate()

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for thread in self._threads:
                thread.join()
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()
        if self._program is not None:
            self._program.close()
            self._program = None

    def _start(self, address: tuple[str, int]) -> None:
        self._program = OpenSsh(self._target, identity=self._identity, known_hosts=self._files, own=self._own, address=address)
        with self._program as program:  # the file of known hosts is read before the tunnel stands
            forward = f"127.0.0.1:{self.port}:127.0.0.1:{self._here}"
            command = [*program.command("ExitOnForwardFailure=yes"), "-R", forward, program.destination, _STAYS]
            pipe = subprocess.PIPE
            process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=pipe, env=program.environment(), start_new_session=True
            )  # fmt: skip
            self._said, self._ready, self._open = [], False, 2
            self._threads = [
                threading.Thread(target=self._read, args=(stream,), daemon=True) for stream in (process.stdout, process.stderr)
            ]
            for thread in self._threads:
                thread.start()
            self._process = process
            with self._news:
                self._news.wait_for(lambda: (self._ready and self.port > 0) or not self._open, _BEGIN)
                if self._ready and self.port:
                    return
        self._raise(address)

    def _free(self, address: tuple[str, int]) -> bool:
        """A server that has not noticed the break still holds the port. End it; whether there was anything to try."""
        peer, self._peer = self._peer, ""
        if not peer.isdigit():
            return False
        self.close()
        with OpenSsh(self._target, identity=self._identity, known_hosts=self._files, own=self._own, address=address) as program:
            command = [*program.command(), program.destination, _FREE.format(peer)]
            subprocess.run(
                command, check=False, stdin=subprocess.DEVNULL, capture_output=True, env=program.environment(), timeout=_BEGIN
            )  # fmt: skip
        return True

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            for line in iter(lambda: stream.readline(1 << 12), b""):
                with self._news:
                    self._said = [*self._said[-20:], line.rstrip()]
                    if line.startswith(_READY):
                        self._ready = True
                        self._peer = line.split()[-1].decode(errors="replace")
                    elif found := _PORT.match(line):
                        self.port = int(found[1])
                    self._news.notify_all()
        with self._news:
            self._open -= 1
            self._news.notify_all()

    def _raise(self, address: tuple[str, int]) -> None:
        """Say why it does not stand, from what ssh said."""
        whom = f"{self._target.user}@{address[0]}:{address[1]}"
        said = b"\n".join(self._said).decode(errors="replace")
        last = said.splitlines()[-1] if said else "no answer in time"
        if "Host key verification failed" in said:
            raise HostKeyMismatch(
                f"The host key of {whom} is not the one that was pinned.",
                safe="Nothing was sent to it.",
                remedy="Ask the provider which address the machine has now.",
            )
        if "Permission denied" in said:
            raise LoginRefused(f"{whom} lets no tunnel in: {last}.", safe="Nothing was opened.")
        if "forwarding failed" in said:
            raise PortRefused(
                f"{whom} gives no port {self.port or ''} to a tunnel: {last}.".replace("  ", " "),
                safe="Nothing was opened.",
                remedy="After a break, try again in a minute; else see AllowTcpForwarding in the machine's sshd_config.",
            )
        raise Unreachable(f"The tunnel to {whom} does not stand: {last}.", safe="Nothing was opened.")


def reverse(target: Target, folder: Path, accounts: Access, port: int = 0) -> Callable[[int], AbstractContextManager[Callable[[], int]]]:
    """What opens tunnels to a port of ours with this home's defaults; see `shell`. While its block runs a tunnel that breaks is opened
    again, at the same port. What it yields tells that port. `port`: the one to ask the machine for; if it can't be had, another."""

    @contextmanager
    def tunnel(here: int) -> Iterator[Callable[[], int]]:
        chosen = defaults(target, folder, accounts)
        made = Tunnel(target, here, identity=chosen.identity, known_hosts=chosen.known_hosts, own=chosen.own)
        _open(made, port)
        over = threading.Event()
        keeper = threading.Thread(target=_keep, args=(made, over), name="torpor-tunnel", daemon=True)
        keeper.start()
        try:
            yield lambda: made.port
        finally:
            over.set()
            made.abort()
            keeper.join()
            made.close()

    return tunnel


def _open(tunnel: Tunnel, port: int) -> None:
    """At `port` if it can be had. A process that was killed holds it for a moment: the machine has to notice."""
    for pause in (1.0, 2.0, 0.0):
        try:
            tunnel.open(port)
            return
        except PortRefused:
            if not port:
                raise
            tunnel.close()
            time.sleep(pause)
    tunnel.port = 0
    tunnel.open()


def _keep(tunnel: Tunnel, over: threading.Event) -> None:
    while not over.is_set():
        if tunnel.wait(1.0) and not over.is_set():
            try:
                tunnel.open()
            except (TorporError, OSError, subprocess.TimeoutExpired):  # requests fail meanwhile, and say so when their patience is over
                over.wait(_AGAIN)
