"""SSH hosts, held to the suite of machines on a real sshd; and what only a host that was there before us can do wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.sshd import Sshd
from torpor.access import Access
from torpor.control.repository import open_repository
from torpor.errors import DestroyRefused, MachineError, UsageError
from torpor.machines.base import Ground, Unused
from torpor.machines.ssh import SshMachine
from torpor.settings import Settings
from torpor.ssh import trust
from torpor.ssh.base import HostKeyMismatch, HostKeyUnknown, LoginRefused
from torpor.testing.machine_suite import MachineSuite

BAD = [
    "", "host", "/host", "//", "///path", "//host:0/a", "//host:99999/a", "//-oProxyCommand=x/a", "//a b/c", "//user@/a", "//-u@host/a",
    "//us er@host/a", "//host:port/a", "//host/a/../b", "//host/a//b", "//host/a\nb", "//h\0st/a", "//[::1/a", "//host/./a",
]  # fmt: skip
NEVER = [
    "/", "/root", "/home", "/home/somebody", "/etc", "/etc/ssh", "/usr", "/usr/local", "/var", "/tmp", "/bin", "/dev/shm", "/mnt", "/opt",
    "/proc/1", "/srv", "/lib/x", "/etc/",
]  # fmt: skip


class TestSsh(MachineSuite):
    host: Sshd

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _host(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        with Sshd(tmp_path_factory.mktemp("machine")) as cls.host:
            yield

    def make(self, name: str) -> SshMachine:
        """All of one host; each has a folder of its own. The key is given by the files of the environment's."""
        if not name.replace("-", "").isalnum() or not name.isascii() or len(name) > 64 or name.startswith("-"):
            return SshMachine(name, self.ground())
        return SshMachine(self.named(name), self.ground())

    def ground(self, **more: str) -> Ground:
        trust.pin(self.tmp_path, "127.0.0.1", self.host.port, self.host.host_key)
        hosts = str(self.tmp_path / trust.FILE)
        accounts = {"TORPOR_SSH_KEY": self.host.target.identity, "TORPOR_KNOWN_HOSTS": hosts} | more
        return Ground(self.tmp_path / "machines", Access(accounts), self.clock)

    def named(self, name: str) -> str:
        return f"//{self.host.user}@127.0.0.1:{self.host.port}{self.host.root.decode()}/{self.tmp_path.name}/{name}"

    def folder(self, name: str = "gpu-1") -> Path:
        """As this computer sees it."""
        return self.host.workspace / self.tmp_path.name / name

    def fill(self, machine: object) -> None:
        assert isinstance(machine, SshMachine)
        folder = self.folder(machine.address.rpartition("/")[2])
        (folder / "folder").mkdir(exist_ok=True)
        (folder / "folder" / "file").write_bytes(b"work of weeks")
        (folder / ".hidden").write_bytes(b"and more")
        (folder / "odd\nname").write_bytes(b"")

    def filled(self, machine: object) -> bool:
        assert isinstance(machine, SshMachine)
        return (self.folder(machine.address.rpartition("/")[2]) / "folder" / "file").exists()

    def leftovers(self, name: str) -> list[str]:
        folder = self.folder(name)
        left = [path.name for path in folder.iterdir()] if folder.exists() else []
        mark = SshMachine(self.named(name), self.ground()).place.mark
        return left + [path.name for path in self.host.home.glob(f".torpor/hosts/ssh-{mark}-*/*") if path.name != "machine"]

    @pytest.mark.parametrize("text", BAD, ids=ascii)
    def test_bad_names(self, text: str) -> None:
        with pytest.raises(UsageError):
            SshMachine(text, self.ground())

    def test_the_state_is_on_the_host_and_has_the_rental(self) -> None:
        rental = self.machine.create().rental
        state = self.machine.access().state.decode()
        assert (self.host.home / state / "rental").read_text() == rental
        assert state.startswith(".torpor/hosts/")

    def test_a_host_that_was_in_use_before(self) -> None:
        """Its workspace is taken as it is, and gets papers with the first access."""
        self.folder().mkdir(parents=True)
        self.fill(self.machine)
        before = self.machine.status()
        assert (before.state, before.rental) == ("running", "")
        with pytest.raises(DestroyRefused):
            self.machine.destroy(self.proof())
        self.machine.access()
        status = self.make("gpu-1").status()
        assert len(status.rental) == 32
        assert self.machine.create() == status
        assert self.filled(self.machine)

    def test_in_use_again_after_its_end(self) -> None:
        first = self.machine.create().rental
        old = self.proof()
        self.machine.destroy(old)
        self.fill(self.machine)
        assert self.machine.status().state == "running"
        with pytest.raises(DestroyRefused):
            self.machine.destroy(self.proof())
        self.machine.access()
        assert self.machine.status().rental not in ("", first)
        with pytest.raises(DestroyRefused):
            self.machine.destroy(old)
        assert self.filled(self.machine)

    def test_an_end_that_broke_off_is_finished(self) -> None:
        self.machine.create()
        self.fill(self.machine)
        proof = self.proof()
        papers = next(self.host.home.glob(f".torpor/hosts/ssh-{self.mark}-*/machine"))
        papers.write_text(f"ending {proof.rental}\n")
        assert self.machine.status().state == "destroyed"
        with pytest.raises(MachineError):
            self.machine.access()
        with pytest.raises(MachineError, match="not empty yet"):
            self.machine.create()
        self.clock.advance(10_000)
        assert self.machine.destroy(proof).state == "destroyed"
        assert self.leftovers("gpu-1") == []

    @property
    def mark(self) -> str:
        return SshMachine(self.named("gpu-1"), self.ground()).place.mark

    @pytest.mark.parametrize("text", ["", "{", "running", "odd 0123", "running " + "0" * 31, "running " + "0" * 64])
    def test_papers_that_are_damaged(self, text: str) -> None:
        self.machine.create()
        self.fill(self.machine)
        proof = self.proof()
        next(self.host.home.glob(f".torpor/hosts/ssh-{self.mark}-*/machine")).write_text(text)
        for call in (self.machine.create, self.machine.access, self.machine.status, lambda: self.machine.destroy(proof)):
            with pytest.raises(MachineError):
                call()
        assert self.filled(self.machine)

    def test_a_workspace_behind_a_link(self) -> None:
        outside = self.folder("outside")
        outside.mkdir(parents=True)
        (outside / "file").write_bytes(b"not its own")
        self.folder().symlink_to("outside")
        with pytest.raises(MachineError, match=r"leads to .*/outside"):
            self.machine.access()
        self.folder().unlink()
        self.machine.create()
        proof = self.proof()
        self.folder().rmdir()
        self.folder().symlink_to("outside")
        with pytest.raises(MachineError):
            self.machine.destroy(proof)
        assert (outside / "file").read_bytes() == b"not its own"

    def test_links_in_it_are_not_followed(self) -> None:
        outside = self.folder("outside")
        outside.mkdir(parents=True)
        (outside / "file").write_bytes(b"not its own")
        self.machine.create()
        (self.folder() / "link").symlink_to("../outside")
        self.machine.destroy(self.proof())
        assert self.leftovers("gpu-1") == []
        assert (outside / "file").read_bytes() == b"not its own"

    def test_the_home_folder_is_no_workspace(self) -> None:
        home = "/homes/me" if self.host.own else str(self.host.home)
        for path in (home, os.path.dirname(home), f"{home}/.torpor/hosts"):
            (self.host.home / ".torpor" / "hosts").mkdir(parents=True, exist_ok=True)
            machine = SshMachine(f"//{self.host.user}@127.0.0.1:{self.host.port}{path}", self.ground())
            for call in (machine.create, machine.access):
                with pytest.raises(UsageError, match="can't be a workspace"):
                    call()

    def test_a_host_that_is_away(self) -> None:
        self.machine.create()
        self.fill(self.machine)
        proof = self.proof()
        self.host.stop()
        try:
            status = self.machine.status()
            assert (status.state, status.rental) == ("unreachable", "")
            for call in (self.machine.create, self.machine.access, lambda: self.machine.destroy(proof)):
                with pytest.raises(MachineError):
                    call()
        finally:
            self.host.start()
        self.runs()

    def test_another_host_at_the_address(self) -> None:
        self.machine.create()
        self.fill(self.machine)
        proof, commands = self.proof(), self.host.commands
        old = (self.host.folder / "host_key").read_text()
        self.host.change_host_key()
        try:
            for call in (self.machine.status, self.machine.create, self.machine.access, lambda: self.machine.destroy(proof)):
                with pytest.raises(HostKeyMismatch):
                    call()
            assert self.host.commands == commands
        finally:
            self.host.change_host_key(old)
        self.runs()

    def test_who_does_not_know_it(self, tmp_path: Path) -> None:
        ground = self.ground(TORPOR_KNOWN_HOSTS=str(tmp_path / "none"))
        with pytest.raises(HostKeyUnknown, match="is not known"):
            SshMachine(self.named("gpu-1"), ground).status()
        (tmp_path / "key").write_bytes((self.host.folder / "host_key").read_bytes())
        with pytest.raises(LoginRefused):
            SshMachine(self.named("gpu-1"), self.ground(TORPOR_SSH_KEY=str(tmp_path / "key"))).status()

    def test_a_lease_s_permission_is_none(self) -> None:
        """It says that what a machine holds is not missed; of a host that was there before, nobody knows that."""
        self.machine.create()
        self.fill(self.machine)
        with pytest.raises(DestroyRefused):
            self.machine.destroy(Unused(self.machine.address, self.machine.status().rental, "lease", self.clock.now() + 60))
        self.runs()

    def test_files_that_nobody_may_change(self) -> None:
        """Read-only folders are removed too."""
        self.machine.create()
        self.fill(self.machine)
        (self.folder() / "folder").chmod(0o500)
        self.machine.destroy(self.proof())
        assert self.leftovers("gpu-1") == []

    def test_what_is_mounted_inside_stays(self) -> None:
        """It is not in the snapshot."""
        self.machine.create()
        (self.folder() / "inside").mkdir()
        listing = self.host.home / "mountinfo"
        point = f"{self.host.root.decode()}/{self.tmp_path.name}/gpu-1/inside"
        listing.write_text(f"1 2 3:4 / {point} rw - ext4 /dev/x rw\n")
        from torpor.machines import ssh_script

        real, ssh_script.MOUNTS = ssh_script.MOUNTS, f"cat ~/{listing.name}"
        try:
            with pytest.raises(DestroyRefused, match="mounted inside"):
                self.machine.destroy(self.proof())
        finally:
            ssh_script.MOUNTS = real
            listing.unlink()
        assert (self.folder() / "inside").exists()
        shutil.rmtree(self.folder() / "inside")

    def test_the_repository_does_not_go_with_the_workspace(self) -> None:
        """Of a host that is this computer, or that shares a file system with it. Other files of that name are nobody's repository."""
        self.machine.create()
        other = self.folder() / "model"
        other.mkdir()
        (other / "config.json").write_text('{"repository":"another"}')
        store = self.folder() / "odd\nname" / "store"
        made = open_repository(Settings(home=self.tmp_path / "home", storage=store.as_uri()), create=True)
        proof = self.proof(repository=made.id)
        with pytest.raises(DestroyRefused, match="holds the repository itself"):
            self.machine.destroy(proof)
        assert (store / "config.json").exists()
        assert self.machine.status().state == "running"
        shutil.rmtree(store.parent)
        assert self.machine.destroy(proof).state == "destroyed"
        assert self.leftovers("gpu-1") == []


@pytest.mark.parametrize("path", NEVER)
def test_folders_that_are_nobody_s_workspace(path: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be a workspace"):
        SshMachine(f"//root@127.0.0.1{path}", Ground(tmp_path))


def test_the_address_is_canonical(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    for text, address in {
        "//host": "ssh://root@host",
        "//HOST:22/workspace": "ssh://root@host",
        "//me@host:2222/data/mine/": "ssh://me@host:2222/data/mine",
        "//me@[::1]:2222": "ssh://me@[::1]:2222",
        "//me@[::1]/workspace/a b": "ssh://me@[::1]/workspace/a b",
    }.items():
        assert SshMachine(text, ground).address == address
