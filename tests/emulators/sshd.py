"""A rented machine on loopback: a real sshd of its own, with its own home, workspace, processes and keys.

    with Sshd(tmp_path / "a") as host:
        shell = …(host.target)                      # where it is, its pinned host key, a key that may log in
        (host.workspace / "file").write_text("x")   # on the machine: host.root, which is /workspace
        (host.home / ".profile")                    # on the machine: the login's home folder
        host.drop()                                 # every connection breaks now; commands live on
        host.stop(); host.start()                   # unreachable for a while, then back on the same port; commands live on
        host.power_off(); host.power_on()           # every process ends; files stay
        host.change_host_key()                      # another machine answers at the address
        host.wait_for_connections(2); host.connections, host.logins, host.commands
        host.authorize("ssh-ed25519 AAAA…"); host.processes()

As root (and with namespaces) each machine has its own mounts and processes: /workspace, home, /run, /proc and process ids are its own,
everything else is this computer's. Otherwise it has folders and a home of its own alone: use `host.root`, not "/workspace".
There is no SFTP subsystem and no PAM, as on many rented machines.
"""

from __future__ import annotations

import functools
import getpass
import itertools
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psutil

from torpor.ssh import keys
from torpor.ssh.base import Target

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOME = "/homes/me"  # as the machine sees it: /root may hold the interpreter of these tests

# Makes a root of this computer's folders with some of its own, and stays as the first process until standard input ends.
_BOOT = r"""
set -e
mount -t tmpfs -o mode=755,size=64m tmpfs /mnt
for path in /*; do
    case $path in /mnt | /proc | /run | /workspace | /homes | /lost+found) continue ;; esac
    if [ -L "$path" ]; then cp -P "$path" "/mnt$path"
    elif [ -d "$path" ]; then mkdir "/mnt$path"; mount --rbind "$path" "/mnt$path"
    elif [ -f "$path" ]; then : >"/mnt$path"; mount --bind "$path" "/mnt$path"
    fi
done
mkdir -p /mnt/mnt /mnt/proc /mnt/run/sshd /mnt/run/lock /mnt/workspace /mnt/homes/me
ln -s "$(command -v cat)" /mnt/run/holder  # a shell that waits for a child buries orphans too
mount -t proc proc /mnt/proc
mount --bind "$1/workspace" /mnt/workspace
mount --bind "$1/home" /mnt/homes/me
mount --bind "$1/passwd" /mnt/etc/passwd
exec chroot /mnt /bin/sh -c 'echo up; /run/holder >/dev/null; exit 0'
"""

_CONFIG = """\
Port {port}
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PidFile none
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
PrintMotd no
PrintLastLog no
UseDNS no
LogLevel VERBOSE
MaxStartups 100
SetEnv PATH={path}{environment}
{more}
"""
_CONNECTED, _LOGGED_IN, _COMMAND = b"Connection from ", b"Accepted publickey", b"Starting session: "


@functools.cache
def namespaces() -> bool:
    """Whether machines can have mounts and processes of their own here."""
    if os.geteuid() != 0 or not all(shutil.which(name) for name in ("unshare", "nsenter", "chroot")):
        return False
    return subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], check=False, capture_output=True).returncode == 0


class Sshd:
    """One machine. `host_key`: its private key, one made by others; `config`: more lines of sshd_config.

    `network`: a network namespace (of `ip netns`) that the machine is in, where it has `address`; needs root.
    """

    def __init__(
        self, folder: Path, *, host_key: str = "", config: str = "", namespace: bool | None = None, network: str = "",
        address: str = "127.0.0.1",
    ) -> None:  # fmt: skip
        self.folder = folder
        self.network = network
        self.address = address
        self.home = folder / "home"
        self.workspace = folder / "workspace"
        self.own = namespaces() if namespace is None else namespace
        self.root = b"/workspace" if self.own else os.fsencode(self.workspace)
        for made in (self.home, self.workspace):
            made.mkdir(parents=True, exist_ok=True)
        self.login = keys.make()
        self._write("login", self.login.private)
        self._write("authorized_keys", self.login.public + "\n")
        self._write("host_key", host_key or keys.make().private)
        self._more = config
        self.port = _free_port()
        self.log: list[bytes] = []
        self._changed = threading.Condition()
        self._machine: subprocess.Popen[bytes] | None = None
        self._sshd: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None

    # what others need to know

    @property
    def host_key(self) -> str:
        """The public key, as it is pinned."""
        return keys.public_of((self.folder / "host_key").read_text())

    @property
    def user(self) -> str:
        return getpass.getuser()

    @property
    def target(self) -> Target:
        return Target(host=self.address, port=self.port, user=self.user, host_key=self.host_key, identity=str(self.folder / "login"))

    @property
    def connections(self) -> int:
        """How many were ever opened, logged in or not."""
        return self._count(_CONNECTED)

    @property
    def logins(self) -> int:
        return self._count(_LOGGED_IN)

    @property
    def commands(self) -> int:
        return self._count(_COMMAND)

    def wait_for_connections(self, count: int, seconds: float = 20.0) -> None:
        self.wait_for(lambda: self.connections >= count, seconds)

    def processes(self) -> list[psutil.Process]:
        """Those of the machine, without sshd and the first: commands, and what they left running."""
        mine = self._servers()
        if self.own:
            found = _below(self._first())
        else:
            found = [one for one in psutil.process_iter() if _environment(one).get("TORPOR_TEST_MACHINE") == str(self.folder)]
        return [one for one in found if one not in mine and _words(one) not in ([], ["/run/holder"])]

    # what happens to it

    def authorize(self, line: str) -> None:
        with (self.folder / "authorized_keys").open("a") as file:
            file.write(line.strip() + "\n")

    def authorize_only(self, *lines: str) -> None:
        self._write("authorized_keys", "".join(line + "\n" for line in lines))

    def change_host_key(self, private: str = "") -> None:
        self._write("host_key", private or keys.make().private)
        if self._sshd is not None:
            self.stop()
            self.start()

    def drop(self) -> None:
        """Break all connections. Nobody tells the commands."""
        listener = self._listener()
        for server in self._servers():
            if server != listener:
                with suppress(psutil.NoSuchProcess):
                    server.kill()

    def freeze(self) -> list[psutil.Process]:
        """Connections stand and nobody answers any more, as of a machine that died behind a proxy. Those to be resumed or killed."""
        listener = self._listener()
        found = [server for server in self._servers() if server != listener]
        for server in found:
            server.suspend()
        return found

    def stop(self) -> None:
        """Nothing listens any more, and connections break. Commands live on."""
        if self._sshd is None:
            return
        servers = self._servers()
        for server in servers:
            with suppress(psutil.NoSuchProcess):
                server.kill()
        if not servers or not self.own:
            self._sshd.kill()
        # Else nsenter ends by itself, and has buried its child: who else would do it, and how soon, is this computer's first process's
        # affair, and until then the machine does not end.
        self._sshd.wait(timeout=20)
        assert self._reader is not None
        self._reader.join(20)
        self._sshd = None

    def start(self) -> None:
        """Listen, on the same port."""
        assert self._sshd is None
        environment = "" if self.own else f" HOME={self.home} TORPOR_TEST_MACHINE={self.folder}"
        more = self._more if self.own else f'{self._more}\nForceCommand cd "$HOME"; eval "${{SSH_ORIGINAL_COMMAND:-/bin/sh}}"'
        config = _CONFIG.format(port=self.port, address=self.address, folder=self.folder, path=PATH, environment=environment, more=more)
        self._write("sshd_config", config)
        command = [_sshd(), "-D", "-e", "-f", str(self.folder / "sshd_config")]
        if not self.own and os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where Debian's sshd keeps its other self
        if self.own:
            network = [f"--net=/run/netns/{self.network}"] if self.network else []
            command = ["nsenter", "--target", str(self._first().pid), "--mount", "--pid", "--root", *network, "env", "--chdir=/", *command]
        seen = len(self.log)
        self._sshd = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert self._sshd.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self._sshd.stderr,), daemon=True)
        self._reader.start()
        self.wait_for(lambda: any(b"Server listening" in line or line == b"" for line in self.log[seen:]), 20)
        if b"" in self.log[seen:]:
            raise RuntimeError(b"".join(self.log[seen:]).decode())

    def power_off(self) -> None:
        """Every process ends. Files stay."""
        self.stop()
        if not self.own:
            for process in self.processes():
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        if self._machine is not None:
            assert self._machine.stdin is not None
            assert self._machine.stdout is not None
            self._machine.stdin.close()
            self._machine.wait(timeout=20)
            self._machine.stdout.close()
            self._machine = None

    def power_on(self) -> None:
        if self.own:
            passwd = Path("/etc/passwd").read_text()
            self._write("passwd", re.sub(r"^root:(.*?:.*?:.*?:.*?):.*$", rf"root:\1:{HOME}:/bin/bash", passwd, flags=re.MULTILINE))
            (self.folder / "passwd").chmod(0o644)
            command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", _BOOT, "torpor-test", str(self.folder)]
            self._machine = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert self._machine.stdout is not None
            assert self._machine.stdout.readline() == b"up\n"
        self.start()

    def __enter__(self) -> Self:
        try:
            self.power_on()
        except BaseException:
            self.power_off()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.power_off()

    # how it is done

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)

    def _count(self, what: bytes) -> int:
        return sum(what in line for line in self.log)

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            for line in itertools.chain(iter(stream.readline, b""), [b""]):
                with self._changed:
                    self.log.append(line)
                    self._changed.notify_all()

    def wait_for(self, until: Callable[[], bool], seconds: float = 20.0) -> None:
        """Wait until this is so; it is looked at again with each line of the log."""
        with self._changed:
            assert self._changed.wait_for(until, seconds), b"".join(self.log).decode()

    def _first(self) -> psutil.Process:
        """The machine's first process, as this computer counts."""
        assert self._machine is not None
        (first,) = psutil.Process(self._machine.pid).children()
        return first

    def _listener(self) -> psutil.Process | None:
        assert self._sshd is not None
        found = psutil.Process(self._sshd.pid)
        return next(iter(found.children()), None) if self.own else found

    def _servers(self) -> list[psutil.Process]:
        """sshd and those of its processes that hold connections."""
        if self._sshd is None:
            return []
        found = [] if (listener := self._listener()) is None else [listener]
        for process in found:
            with suppress(psutil.NoSuchProcess):
                found += [child for child in process.children() if child.name().startswith("sshd")]
        return found


def _below(first: psutil.Process) -> list[psutil.Process]:
    """All processes of the namespace of this one, but itself."""
    space = os.readlink(f"/proc/{first.pid}/ns/pid")
    found = []
    for process in psutil.process_iter():
        with suppress(OSError):
            if process != first and os.readlink(f"/proc/{process.pid}/ns/pid") == space:
                found.append(process)
    return found


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _sshd() -> str:
    found = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    assert found is not None, "sshd is not installed: ./dev setup"
    return found  # it wants to be called by its whole path


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
