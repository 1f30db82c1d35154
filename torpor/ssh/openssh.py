"""The OpenSSH program, where bytes in bulk or rsync need it: the same pinned keys as `connect`, and none of the user's settings."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from torpor.errors import MissingDependency
from torpor.ssh import link, trust
from torpor.ssh.base import Target

if TYPE_CHECKING:
    from typing_extensions import Self

_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "GlobalKnownHostsFile=/dev/null",
    "UpdateHostKeys=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ControlMaster=no",
    "ControlPath=none",
    "PermitLocalCommand=no",
    "ConnectTimeout=10",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=3",
    "Ciphers=^aes128-gcm@openssh.com",
)


class OpenSsh:
    """`ssh` and what it needs to reach a target at one of its addresses. The list of known hosts is a file while the block runs.

    Raises `HostKeyUnknown`, `Unreachable` as it is entered, if nobody has pinned a key.
    """

    def __init__(
        self, target: Target, *, identity: str = "", known_hosts: Sequence[Path] = (), own: str = "", address: tuple[str, int] | None = None
    ) -> None:
        self._target = target
        self._own = own
        self._identity = target.identity or identity
        self._files = list(known_hosts)
        self.address = address or (target.host, target.port)
        self._folder = ""

    def __enter__(self) -> Self:
        host, port = self.address
        pinned = [self._target.host_key] if self._target.host_key else trust.known(self._files, host, port)
        if not pinned:
            raise link.unknown(host, port, link.shown(host, port))
        if shutil.which("ssh") is None:
            raise MissingDependency("The program ssh is not on PATH.", remedy="Install OpenSSH's client: apt-get install openssh-client")
        self._folder = tempfile.mkdtemp(prefix="torpor-ssh-")
        with open(os.path.join(self._folder, "known_hosts"), "x", encoding="utf-8") as file:
            file.write("".join(f"{trust.name_of(host, port)} {key}\n" for key in pinned))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

    @property
    def destination(self) -> str:
        """`user@host`, as ssh and rsync take it."""
        return f"{self._target.user}@{self.address[0]}"

    def command(self, *more: str) -> list[str]:
        """The program and its options, without the destination."""
        words = ["ssh", "-F", "none", "-p", str(self.address[1]), "-T"]
        for option in (*_OPTIONS, f"UserKnownHostsFile={self._folder}/known_hosts", *self._keys(), *more):
            words += ["-o", option]
        return words

    def for_rsync(self) -> str:
        """What rsync takes as its `--rsh`."""
        return shlex.join(self.command())

    def environment(self) -> dict[str, str]:
        """What the program may know: an agent only where no key was named."""
        names = ("PATH", "HOME", "TMPDIR") if self._identity else ("PATH", "HOME", "TMPDIR", "SSH_AUTH_SOCK")
        return {name: os.environ[name] for name in names if name in os.environ}

    def _keys(self) -> list[str]:
        if not self._identity:
            return [f"IdentityFile={self._own}"] if self._own else []
        return [f"IdentityFile={Path(self._identity).expanduser()}", "IdentitiesOnly=yes", "IdentityAgent=none"]
