"""What an emulated instance is made of: a real sshd that has run its onstart script, or a folder alone where nobody logs in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.emulators.sshd import PATH, Sshd


class SshBox:
    """A machine of tests/emulators/sshd.py. Its image's own host key is one that nobody knows; onstart puts another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = Sshd(folder)
        self.on = False

    @property
    def port(self) -> int:
        return self.host.port

    def boot(self, onstart: str, keys: list[str]) -> None:
        self.on = True
        self.host.power_on()
        (self.folder / "sshd.pid").write_text(str(self._listener()))
        self.onstart(onstart)
        self.authorize(keys)

    def onstart(self, script: str) -> None:
        """Run it where its paths are this machine's: nothing of the computer that runs the tests may be touched."""
        here = script
        for real, own in (
            ("/etc/ssh/ssh_host_ed25519_key", f"{self.folder}/host_key"),
            ("/etc/ssh/ssh_host_*", f"{self.folder}/host_key*"),
            ("/etc/ssh", f"{self.folder}"),
            ("/run/sshd.pid", f"{self.folder}/sshd.pid"),
            ("pgrep -o -x sshd", "false"),
        ):
            here = here.replace(real, own)
        left = re.findall(r"(?<![\w.])/(?:etc|run|var|usr|root|bin|boot|lib|proc|sys)\b\S*", here.replace(str(self.folder), ""))
        assert not left, f"onstart would touch {left} of this computer"
        seen = len(self.host.log)
        environment = {"PATH": PATH, "HOME": str(self.host.home), "LC_ALL": "C"}
        subprocess.run(["/bin/sh", "-c", here], check=True, env=environment, cwd=self.host.home, timeout=30)
        if "kill -HUP" in script:
            self.host.wait_for(lambda: any(b"Server listening" in line for line in self.host.log[seen:]), 20)

    def authorize(self, keys: list[str]) -> None:
        own = self.host.home / ".ssh/authorized_keys"
        self.host.authorize_only(*keys, *(own.read_text().splitlines() if own.exists() else []), self.host.login.public)

    def halt(self) -> None:
        if self.on:
            self.host.power_off()
        self.on = False

    def remove(self) -> None:
        self.halt()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _listener(self) -> int:
        listener = self.host._listener()
        assert listener is not None
        return listener.pid


class FolderBox:
    """A disk without a machine, for what is about the service alone. Nothing answers at its port; `host_key` is what would be shown."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 1024 + int(folder.name) % 60_000
        self.host_key = "ssh-ed25519 of-the-image"
        self.workspace = folder / "workspace"
        self.workspace.mkdir(parents=True)

    def boot(self, onstart: str, keys: list[str]) -> None:
        found = re.search(r"printf '%s\\n' '(ssh-ed25519 [^']+)' >/etc/ssh/ssh_host_ed25519_key.pub", onstart)
        self.host_key = found[1] if found else self.host_key

    def authorize(self, keys: list[str]) -> None: ...

    def halt(self) -> None: ...

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def boxes(folder: Path, *, ssh: bool) -> type[SshBox | FolderBox]:
    os.makedirs(folder, exist_ok=True)
    return SshBox if ssh else FolderBox
