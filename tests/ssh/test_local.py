"""`LocalShell` keeps `Shell`'s word: what holds over SSH holds here."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import psutil
import pytest

from torpor.ssh.base import Dropped, Overdue
from torpor.ssh.local import LocalShell


def ended(pid: int) -> bool:
    """A process that is gone, or that nobody has buried yet, ended."""
    try:
        return psutil.wait_procs([psutil.Process(pid)], timeout=10)[1] == []
    except psutil.NoSuchProcess:
        return True


def test_run() -> None:
    ran = LocalShell().run("cat; echo said >&2; exit 3", b"given")
    assert (ran.code, ran.out, ran.err, ran.text) == (3, b"given", b"said\n", "given")


def test_the_environment_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    ran = LocalShell().run("env; pwd")
    assert b"secret" not in ran.out
    assert ran.text.splitlines()[-1] == os.path.realpath(os.environ["HOME"])


def test_much_both_ways() -> None:
    data = os.urandom(1 << 20) * 16
    ran = LocalShell().run("tee /dev/stderr", io.BytesIO(data))
    assert ran.out == data
    assert ran.err == data[-(1 << 16) :]


def test_input_that_nobody_wants() -> None:
    assert LocalShell().run("exec <&-; echo enough", b"x" * (1 << 20)).text == "enough"


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(Overdue, match=r"took longer than 0\.3 seconds"):
        LocalShell().run(f"sleep 60 & echo $! >{tmp_path}/pid; wait", seconds=0.3)
    assert ended(int((tmp_path / "pid").read_text()))


def test_a_command_that_never_reads_is_ended() -> None:
    with pytest.raises(Overdue):
        LocalShell().run("exec sleep 60", b"x" * (1 << 20), seconds=0.3)


def test_one_who_holds_the_streams_holds_nobody_up() -> None:
    with pytest.raises(Overdue):
        LocalShell().run("setsid sleep 2 & exec sleep 60", seconds=0.3)


def test_input_that_cannot_be_read() -> None:
    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object) -> int:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        LocalShell().run("cat", Broken())  # type: ignore[arg-type]


def test_a_conversation() -> None:
    channel = LocalShell().open('while read line; do echo "<$line>"; done; echo bye >&2; exit 7')
    for word in (b"one", b"two"):
        channel.stdin.write(word + b"\n")
        channel.stdin.flush()
        assert channel.out.readline() == b"<" + word + b">\n"
    channel.stdin.close()
    assert channel.out.readline() == b""
    assert channel.wait(10) == 7
    assert channel.told() == b"bye\n"
    channel.close()


def test_a_signal_is_a_code() -> None:
    assert LocalShell().run("kill -9 $$").code == 137


def test_closing_ends_a_wait() -> None:
    channel = LocalShell().open("exec sleep 60")
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append(channel.out.readline()))
    reader.start()
    channel.end()
    reader.join(10)
    assert heard == [b""]
    assert channel.wait(10) == 137
    channel.close()


def test_waiting_has_an_end() -> None:
    channel = LocalShell().open("cat")
    with pytest.raises(Dropped, match="still runs"):
        channel.wait(0.05)
    channel.close()
    assert channel.wait(10) in (0, 141)
