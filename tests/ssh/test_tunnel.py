"""The OpenSSH program: a tunnel from a machine to us, and rsync."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.emulators.sshd import Sshd
from torpor.access import Access
from torpor.ssh import keys
from torpor.ssh.base import HostKeyMismatch, HostKeyUnknown, LoginRefused, Unreachable
from torpor.ssh.connect import SshShell
from torpor.ssh.openssh import OpenSsh
from torpor.ssh.tunnel import PortRefused, Tunnel, reverse


@pytest.fixture
def here() -> Iterator[int]:
    """A port that answers each line in capitals."""
    import socket

    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client = server.accept()[0]
            except OSError:
                return
            with client, client.makefile("rwb", buffering=0) as stream:
                for line in stream:
                    stream.write(line.upper())

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(10)


ASK = "exec 3<>/dev/tcp/127.0.0.1/{}; echo hello >&3; read line <&3; echo $line"


def ask(host: Sshd, port: int) -> str:
    shell = SshShell(host.target)
    try:
        return shell.run(f"bash -c '{ASK.format(port)}'").text
    finally:
        shell.close()


def test_a_tunnel_and_its_return(host: Sshd, here: int) -> None:
    tunnel = Tunnel(host.target, here)
    port = tunnel.open()
    assert port > 0
    assert ask(host, port) == "HELLO"
    assert tunnel.open() == port  # it stands
    assert not tunnel.wait(0.01)
    host.drop()
    assert tunnel.wait(20)
    assert not tunnel.alive
    assert tunnel.open() == port
    assert ask(host, port) == "HELLO"
    tunnel.close()
    assert not tunnel.alive

    other = Tunnel(host.target, here)  # as another process of ours would, after a crash
    assert other.open(port) == port
    assert ask(host, port) == "HELLO"
    third = Tunnel(host.target, here)
    with pytest.raises(PortRefused, match=f"gives no port {port}"):
        third.open(port)
    assert not third.alive
    other.close()


def test_a_server_that_has_not_noticed_the_break(host: Sshd, here: int) -> None:
    """It holds the port. As after a network that went silent: the connection is kept, and nobody is at its other end."""
    import signal

    tunnel = Tunnel(host.target, here)
    port = tunnel.open()
    process = tunnel._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    tunnel._process = None  # lost from sight
    assert tunnel.open() == port
    assert ask(host, port) == "HELLO"
    tunnel.close()
    process.kill()
    process.wait()
    assert process.stdin is not None
    process.stdin.close()


def test_a_tunnel_that_is_kept(host: Sshd, here: int, tmp_path: Path) -> None:
    with reverse(host.target, tmp_path, Access())(here) as port:
        first = port()
        assert ask(host, first) == "HELLO"
        before = host.commands
        host.drop()
        host.wait_for(lambda: host.commands > before)
        assert ask(host, port()) == "HELLO"
        assert port() == first


def test_no_secret_on_the_command_line_and_no_file_left(host: Sshd, here: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    import psutil

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("B2_APPLICATION_KEY", "sesame")
    tunnel = Tunnel(host.target, here)
    tunnel.open()
    (process,) = [child for child in psutil.Process().children() if child.name() == "ssh"]
    assert "sesame" not in " ".join(process.cmdline()) + str(process.environ())
    assert list(tmp_path.iterdir()) == []
    tunnel.close()


def test_what_can_be_wrong(host: Sshd, here: int, tmp_path: Path) -> None:
    logins = host.logins
    change = msgspec.structs.replace
    with pytest.raises(HostKeyMismatch):
        Tunnel(change(host.target, host_key=keys.make().public), here).open()
    with pytest.raises(HostKeyUnknown):
        Tunnel(change(host.target, host_key=""), here).open()
    with pytest.raises(LoginRefused):
        Tunnel(change(host.target, identity=str(keys.login_key(tmp_path))), here).open()
    with pytest.raises(Unreachable):
        Tunnel(change(host.target, port=1), here).open()
    assert host.logins == logins


def test_the_proxy_is_used_where_the_direct_address_fails(host: Sshd, here: int) -> None:
    tunnel = Tunnel(msgspec.structs.replace(host.target, port=1, others=((host.target.host, host.port),)), here)
    assert ask(host, tunnel.open()) == "HELLO"
    tunnel.close()


def test_rsync(host: Sshd, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x" * 1000)
    with OpenSsh(host.target) as ssh:
        words = ["rsync", "-a", "--rsh", ssh.for_rsync(), f"{tmp_path}/file", f"{ssh.destination}:{host.root.decode()}/"]
        subprocess.run(words, check=True, env=ssh.environment())
    assert (host.workspace / "file").read_text() == "x" * 1000
    (host.workspace / "file").unlink()
