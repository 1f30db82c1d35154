"""What the emulated instances are: folders in which their start-up script is run, for real."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.emulators.sshd import Sshd
from torpor.ssh import keys

if TYPE_CHECKING:
    from tests.emulators.gce.service import Service

STUBS = {
    "chown": "",
    "curl": 'for last; do :; done; echo "$last" >"$MACHINE/told"',
    "id": "exit 1",
    "systemctl": 'echo "$@" >>"$MACHINE/systemctl"',
    "useradd": 'echo "$@" >>"$MACHINE/users"',
}


class Folders:
    """Each instance is a folder below `root`, named by its id: its disk. `slow`: start-up scripts don't get to their end yet."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.slow = False
        self._stubs = root / "stubs"
        self._stubs.mkdir(parents=True, exist_ok=True)
        for name, text in STUBS.items():
            (self._stubs / name).write_text(f"#!/bin/sh\n{text}\n")
            (self._stubs / name).chmod(0o755)
        self._booted = 0

    def folder(self, instance: dict[str, Any]) -> Path:
        return self.root / str(instance["id"])

    def boot(self, instance: dict[str, Any], service: Service) -> str:
        """An external address is another one after each start."""
        disk = self.folder(instance)
        (disk / "etc/ssh").mkdir(parents=True, exist_ok=True)
        script = {item["key"]: item["value"] for item in instance["metadata"]["items"]}.get("startup-script")
        if script is not None and not self.slow:
            self.run(disk, script)
            if (disk / "told").exists():
                service.attributes[str(instance["id"])] = {"torpor/ready": "ready"}
        self._booted += 1
        return f"127.0.{self._booted // 250 + 1}.{self._booted % 250 + 1}"

    def run(self, disk: Path, script: str) -> None:
        """The start-up script, with the folder as its root and stubs of what needs to be root."""
        own = script.replace("/etc/ssh", f"{disk}/etc/ssh").replace("/workspace", f"{disk}/workspace")
        environment = {"PATH": f"{self._stubs}:{os.environ['PATH']}", "MACHINE": str(disk)}
        done = subprocess.run(["sh", "-c", own], check=False, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def halt(self, instance: dict[str, Any]) -> None:
        del instance

    def wipe(self, instance: dict[str, Any]) -> None:
        if instance["disks"][0]["autoDelete"]:
            shutil.rmtree(self.folder(instance), ignore_errors=True)


class Machines(Folders):
    """Each that runs is a real sshd, on an address of this computer's that is its own, and on `port`, which all share: as at Google.

    Its login has the keys of the instance's metadata; whose machine it is, is this test's user.
    """

    def __init__(self, root: Path, port: int) -> None:
        super().__init__(root)
        self.port = port
        self.running: dict[str, Sshd] = {}

    def boot(self, instance: dict[str, Any], service: Service) -> str:
        where = super().boot(instance, service)
        disk = self.folder(instance)
        key = disk / "etc/ssh/ssh_host_ed25519_key"
        if not key.exists():
            key.write_text(keys.make().private)  # the image's own doing
        host = Sshd(disk, host_key=key.read_text(), config=f"ListenAddress {where}:{self.port}")
        metadata = {item["key"]: item["value"] for item in instance["metadata"]["items"]}
        for line in metadata.get("ssh-keys", "").splitlines():
            host.authorize(line.partition(":")[2])
        self.running[instance["id"]] = host
        host.power_on()
        return where

    def halt(self, instance: dict[str, Any]) -> None:
        host = self.running.pop(instance["id"], None)
        if host is not None:
            host.power_off()
