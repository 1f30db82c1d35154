"""Bootstrap over a real sshd: with its own processes, its own login, and connections that break for real."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from tests.emulators.sshd import Sshd
from torpor.remote.bootstrap import bootstrap
from torpor.ssh.channel import SshChannel
from torpor.ssh.connect import SshShell


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("machine")) as made:
        yield made


class Dropping(SshShell):
    """Breaks every connection to the host when so many bytes have been written to a channel; once for each of `cuts`."""

    def __init__(self, host: Sshd, cuts: list[int]) -> None:
        super().__init__(host.target)
        self.host = host
        self.cuts = cuts

    def open(self, command: str) -> SshChannel:
        channel = super().open(command)
        channel.stdin = Counted(channel.stdin, self)  # type: ignore[assignment]
        return channel


@dataclass
class Counted:
    stream: IO[bytes]
    shell: Dropping
    written: int = 0

    def write(self, data: bytes) -> int:
        if self.shell.cuts and self.written >= self.shell.cuts[0]:
            self.shell.cuts.pop(0)
            self.shell.host.drop()
        self.written += len(data)
        return self.stream.write(data)

    def flush(self) -> None:
        self.stream.flush()

    def close(self) -> None:
        self.stream.close()


def test_connections_that_break(host: Sshd, bundles: Path) -> None:
    shell = Dropping(host, [2_000_000, 0, 1_000_000])
    engine = bootstrap(shell, bundles, state=".torpor/hosts/me", rental="a" * 32, pause=lambda _: None)
    assert shell.cuts == []
    assert engine.fresh
    base = host.home / ".torpor" / "engines"
    (bundle,) = bundles.glob(f"{os.path.basename(engine.folder)}-*")
    assert engine.sent_bytes < 1.6 * bundle.stat().st_size  # what was on its way when a connection broke is sent again
    assert [path.name for path in base.iterdir() if ".upload" not in path.name] == [os.path.basename(engine.folder)]
    assert (host.home / ".torpor" / "hosts" / "me" / "rental").read_text() == "a" * 32

    before = host.commands
    again = bootstrap(shell, bundles)
    assert (again.fresh, again.sent_bytes, host.commands - before) == (False, 0, 1)

    channel = shell.open(shlex.join(engine.command))
    assert channel.out.readline().startswith(b'{"torpor"')
    channel.close()
    shell.close()
