"""Commands over a real sshd."""

from __future__ import annotations

import io
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from tests.emulators.sshd import Sshd
from torpor.access import Access
from torpor.clock import FakeClock
from torpor.errors import MachineError
from torpor.ssh import keys, link
from torpor.ssh.base import Dropped, HostKeyMismatch, HostKeyUnknown, LoginRefused, Overdue, Target, Unreachable
from torpor.ssh.connect import SshShell
from torpor.ssh.connect import shell as shell_of
from torpor.ssh.trust import name_of


@pytest.fixture
def dead() -> Target:
    """An address where nothing listens."""
    return Target(host="127.0.0.1", port=1, user="root", host_key="ssh-ed25519 AAAA")


def test_run(shell: SshShell) -> None:
    ran = shell.run("cat; echo said >&2; exit 3", b"given")
    assert (ran.code, ran.out, ran.err) == (3, b"given", b"said\n")
    assert shell.run("echo 'a b' \"$0\"; pwd").text.splitlines()[1] == shell.run("echo $HOME").text


def test_the_quickest_cipher(shell: SshShell) -> None:
    shell.run("true")
    assert shell._links[0].transport.remote_cipher == "aes128-gcm@openssh.com"


def test_a_signal_is_a_code(shell: SshShell) -> None:
    assert shell.run("kill -9 $$").code == 137


def test_what_a_login_prints_is_not_the_command_s(shell: SshShell, host: Sshd) -> None:
    """bash reads ~/.bashrc for commands over SSH too."""
    profile = host.home / ".bashrc"
    profile.write_text("echo welcome; echo to you >&2\n")
    try:
        assert shell.run("echo mine").out == b"mine\n"
    finally:
        profile.unlink()


def test_much_both_ways(shell: SshShell) -> None:
    data = os.urandom(1 << 20) * 24
    ran = shell.run("tee /dev/stderr", io.BytesIO(data))
    assert ran.out == data
    assert ran.err == data[-(1 << 16) :]


def test_input_that_nobody_wants(shell: SshShell) -> None:
    assert shell.run("exec <&-; echo enough", b"x" * (20 << 20)).text == "enough"


def test_a_conversation(shell: SshShell) -> None:
    channel = shell.open('while read line; do echo "<$line>"; done; echo bye >&2; exit 7')
    for word in (b"one", b"two"):
        channel.stdin.write(word + b"\n")
        channel.stdin.flush()
        assert channel.out.readline() == b"<" + word + b">\n"
    channel.stdin.close()
    assert channel.out.readline() == b""
    assert channel.wait(10) == 7
    assert channel.told() == b"bye\n"
    channel.close()


def test_one_connection_for_many_commands(shell: SshShell, host: Sshd) -> None:
    before = host.connections
    for number in range(5):
        assert shell.run(f"echo {number}").text == str(number)
    assert host.connections == before + 1
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: shell.run(f"cat; echo {number}", b"x" * 100_000).out, range(24)))
    assert answers == [b"x" * 100_000 + f"{number}\n".encode() for number in range(24)]
    assert host.connections <= before + 2  # a server that is slow to bury its dead may refuse a channel


def test_more_commands_than_a_connection_carries(shell: SshShell, host: Sshd) -> None:
    before = host.connections
    channels = [shell.open("read line; echo $line") for _ in range(20)]
    for channel in channels:
        channel.stdin.write(b"on\n")
        assert channel.out.readline() == b"on\n"
        assert channel.wait(10) == 0
        channel.close()
    assert host.connections == before + 3


def test_a_server_that_gives_few_channels(tmp_path: Path) -> None:
    with Sshd(tmp_path / "few", config="MaxSessions 2") as host:
        shell = SshShell(host.target)
        channels = [shell.open("cat") for _ in range(5)]
        assert host.connections == 3
        for channel in channels:
            channel.close()
        shell.close()


def test_a_command_that_takes_too_long_is_ended(shell: SshShell, host: Sshd) -> None:
    with pytest.raises(Overdue, match=r"took longer than 0\.5 seconds, and was ended"):
        shell.run("sleep 61 & sleep 62", seconds=0.5)
    left = [process for process in host.processes() if "sleep" in process.name()]
    for process in left:
        assert "sleep 6" not in " ".join(process.cmdline()), "only the order to kill may still run"
    assert shell.run("echo on").text == "on"


def test_closing_ends_a_wait(shell: SshShell) -> None:
    channel = shell.open("exec sleep 60")
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append(channel.out.readline()))
    reader.start()
    channel.end()
    reader.join(10)
    assert heard == [b""]


# the host key


def refused(shell: SshShell, host: Sshd, error: type[MachineError]) -> MachineError:
    """It is, and nothing was sent: no login, no command, no word of either."""
    logins, commands = host.logins, host.commands
    with pytest.raises(error) as caught:
        shell.run("cat", b"a secret")
    assert (host.logins, host.commands) == (logins, commands)
    return caught.value


def test_another_host_key_is_refused(host: Sshd) -> None:
    other = keys.make()
    shell = SshShell(msgspec.structs.replace(host.target, host_key=other.public))
    for text in ("ssh-ed25519 é", "nonsense"):
        refused(SshShell(msgspec.structs.replace(host.target, host_key=text)), host, HostKeyMismatch)
    error = refused(shell, host, HostKeyMismatch)
    assert keys.fingerprint(host.host_key) in error.what
    assert keys.fingerprint(other.public) in error.what
    assert not error.retryable


def test_another_machine_at_the_address(tmp_path: Path) -> None:
    with Sshd(tmp_path / "a") as host:
        shell = SshShell(host.target)
        assert shell.run("echo on").text == "on"
        old = (host.folder / "host_key").read_text()
        host.change_host_key()
        refused(shell, host, HostKeyMismatch)
        host.change_host_key(old)
        assert shell.run("echo on").text == "on"
        shell.close()


def test_a_wrong_key_at_the_first_address_ends_the_search(host: Sshd, tmp_path: Path) -> None:
    with Sshd(tmp_path / "other") as other:
        target = msgspec.structs.replace(host.target, port=other.port, others=((host.target.host, host.port),))
        refused(SshShell(target), host, HostKeyMismatch)
        assert other.logins == 0


def test_a_host_key_that_nobody_knows(host: Sshd) -> None:
    target = msgspec.structs.replace(host.target, host_key="")
    error = refused(SshShell(target), host, HostKeyUnknown)
    assert isinstance(error, HostKeyUnknown)
    assert error.key == host.host_key
    assert error.remedy.endswith(f"torpor trust ssh://127.0.0.1:{host.port} --fingerprint {keys.fingerprint(host.host_key)}")


def test_a_host_key_of_another_kind_is_asked_for(tmp_path: Path) -> None:
    """The host has several; the one that is known is an RSA key."""
    import subprocess

    rsa = tmp_path / "rsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", rsa], check=True)
    with Sshd(tmp_path / "two", config=f"HostKey {rsa}") as host:
        public = rsa.with_suffix(".pub").read_text()
        shell = SshShell(msgspec.structs.replace(host.target, host_key=public))
        assert shell.run("echo on").text == "on"
        shell.close()
        refused(SshShell(msgspec.structs.replace(host.target, host_key=public.replace("AAAAB3", "AAAAB4"))), host, HostKeyMismatch)


# keys to log in with


def test_files_named_in_the_environment(host: Sshd, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(f"{name_of('127.0.0.1', host.port)} {host.host_key} a comment\n")
    accounts = Access({"TORPOR_SSH_KEY": host.target.identity, "TORPOR_KNOWN_HOSTS": str(hosts)})
    shell = shell_of(Target(host="127.0.0.1", port=host.port, user=host.user), tmp_path / "machines", accounts)
    assert shell.run("echo on").text == "on"
    shell.close()


def test_a_key_that_comes_late(tmp_path: Path) -> None:
    """Providers say that a machine runs before they have brought our key there."""
    clock = FakeClock()
    with Sshd(tmp_path / "late") as host:
        host.authorize_only()
        waits: list[float] = []

        def pause(seconds: float) -> None:
            waits.append(seconds)
            clock.advance(seconds)
            if len(waits) == 3:
                host.authorize(host.login.public)

        shell = SshShell(host.target, clock=clock, pause=pause)
        assert shell.run("echo on").text == "on"
        assert len(waits) == 3
        shell.close()


def test_a_key_that_never_comes(host: Sshd, tmp_path: Path) -> None:
    clock = FakeClock()
    stranger = keys.login_key(tmp_path / "keys")
    shell = SshShell(msgspec.structs.replace(host.target, identity=str(stranger)), clock=clock, pause=clock.advance, patience=9.0)
    before = clock.now()
    with pytest.raises(LoginRefused, match="refuses the key"):
        shell.run("true")
    assert clock.now() - before == 9.0


@pytest.mark.parametrize("what", ["missing", "damaged", "locked"])
def test_a_key_that_cannot_be_used(what: str, host: Sshd, tmp_path: Path) -> None:
    import subprocess

    path = tmp_path / "key"
    if what == "damaged":
        path.write_text(keys.make().private[:200])
    elif what == "locked":
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "sesame", "-f", path], check=True)
    shell = SshShell(msgspec.structs.replace(host.target, identity=str(path)))
    before = host.connections
    with pytest.raises(MachineError, match="can't be used") as caught:
        shell.run("true")
    assert host.connections == before
    if path.exists():
        assert path.read_text().splitlines()[1][:20] not in str(caught.value)


# where it is


def test_the_proxy_is_used_where_the_direct_address_fails(host: Sshd, dead: Target) -> None:
    target = msgspec.structs.replace(host.target, port=dead.port, others=((host.target.host, host.port),))
    shell = SshShell(target)
    assert shell.run("echo on").text == "on"
    assert shell.address == (host.target.host, host.port)
    host.drop()
    assert again(lambda: shell.run("echo on").text) == "on"
    shell.close()


def test_nobody_there(dead: Target) -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1 does not answer"):
        SshShell(dead).run("true")
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1 .*127\.0\.0\.1:2 "):
        SshShell(msgspec.structs.replace(dead, others=(("127.0.0.1", 2),))).run("true")


# connections that break


def again(call: Callable[[], str]) -> str:
    """A break is noticed a moment after it came: what is asked in that moment is lost, once."""
    try:
        return call()
    except Dropped:
        return call()


def test_a_drop_in_the_middle(shell: SshShell, host: Sshd) -> None:
    channel = shell.open("echo begun; exec sleep 60")
    assert channel.out.readline() == b"begun\n"
    host.drop()
    assert channel.out.readline() == b""
    with pytest.raises(Dropped, match="broke while a command ran"):
        channel.wait(10)
    with pytest.raises(BrokenPipeError):
        channel.stdin.write(b"x")
    channel.close()
    assert again(lambda: shell.run("echo on").text) == "on"
    for process in host.processes():
        process.kill()


def test_a_machine_that_falls_silent(host: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_KEEPALIVE", 0.2)
    monkeypatch.setattr(link, "_SILENCE", 1.0)
    shell = SshShell(host.target)
    assert shell.run("sleep 1.5; echo slow").text == "slow"  # which is not silent
    channel = shell.open("echo begun; exec sleep 60")
    assert channel.out.readline() == b"begun\n"
    frozen = host.freeze()
    assert channel.out.readline() == b""
    with pytest.raises(Dropped):
        channel.wait(10)
    for process in frozen:
        process.kill()
    assert shell.run("echo on").text == "on"
    shell.close()


def test_a_drop_while_much_is_sent(shell: SshShell, host: Sshd) -> None:
    class Source(io.RawIOBase):
        sent = 0

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            self.sent += 1
            if self.sent == 20:
                host.drop()
            return b"x" * size

    with pytest.raises(Dropped):
        shell.run("cat >/dev/null", Source())  # type: ignore[arg-type]


def test_away_for_a_while(tmp_path: Path) -> None:
    with Sshd(tmp_path / "a") as host:
        shell = SshShell(host.target)
        assert shell.run("echo on").text == "on"
        host.stop()
        with pytest.raises((Unreachable, Dropped)):
            shell.run("true")
        with pytest.raises(Unreachable):
            shell.run("true")
        host.start()
        assert shell.run("echo on").text == "on"
        shell.close()
        assert shell.run("echo and on").text == "and on"
        shell.close()


def test_who_may_run_no_commands(tmp_path: Path) -> None:
    with Sshd(tmp_path / "a", config="ForceCommand echo away with you; exit 1") as host:
        shell = SshShell(host.target)
        with pytest.raises(MachineError, match=r"runs no commands \(exit code 1\): away with you"):
            shell.run("true")
        shell.close()


def test_secrets_are_in_no_log(host: Sshd, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.DEBUG):
        shell = SshShell(host.target)
        assert shell.run("cat", b"sesame").out == b"sesame"
        host.drop()
        again(lambda: shell.run("true").text)
        shell.close()
        with pytest.raises(HostKeyMismatch):
            SshShell(msgspec.structs.replace(host.target, host_key=keys.make().public)).run("cat", b"sesame")
    written = caplog.text + "".join(capfd.readouterr()) + b"".join(host.log).decode()
    assert "sesame" not in written
    assert not [record for record in caplog.records if record.name.startswith(("paramiko", "torpor.ssh"))]
    assert "PRIVATE" not in repr(host.login) + repr(host.target)
