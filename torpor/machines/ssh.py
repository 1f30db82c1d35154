"""An SSH host by its address: it was there before us and stays. What is made and destroyed is the workspace on it."""

from __future__ import annotations

import re
import secrets
import weakref

import msgspec

from torpor.errors import DestroyRefused, MachineError
from torpor.jobs import show_text
from torpor.machines import ssh_place, ssh_script
from torpor.machines.base import Access, Ground, Proof, Status, Traits, Unused
from torpor.ssh.base import Dropped, Overdue, Shell, Target, Unreachable
from torpor.workspace.system import mount_points

_PAPERS = re.compile(r"(running|ending|destroyed) ([0-9a-f]{32})\Z")
_LONG = 3600.0  # seconds; millions of files take minutes to remove


class _Facts(msgspec.Struct, kw_only=True):
    """What the host says. `kind` of the workspace: `folder`, `link`, `other`, `none`; `filled`: it has something in it."""

    home: str = ""
    state: str = ""
    papers: str | None = None
    kind: str = "none"
    real: str = ""
    filled: str = ""


class SshMachine:
    """`ssh://user@host:port/absolute/path`. It keeps its connection for as long as somebody has it in hand."""

    traits = Traits(
        deletes="Destroying it empties its workspace folder; everything else on the host stays.",
        billed_stopped="torpor can't end what the host costs: end it where it was rented.",
        notice=0.0,
        ends="workspace",
    )

    def __init__(self, name: str, ground: Ground) -> None:
        self.place = ssh_place.parse(name)
        self._ground = ground
        self._shell: Shell | None = None

    @property
    def address(self) -> str:
        return self.place.address

    @property
    def target(self) -> Target:
        return Target(host=self.place.host, port=self.place.port, user=self.place.user)

    def status(self) -> Status:
        """Asks the host. One that does not answer is `unreachable`; one that lets us not in, or has another key, raises."""
        try:
            facts = self._ask()
        except (Unreachable, Dropped) as error:
            return Status(self.address, "unreachable", detail=error.what)
        return self._status(facts)

    def create(self) -> Status:
        """Make the workspace folder and its papers. A folder that is there is taken as it is: it was in use before torpor came."""
        facts = self._ask()
        if self._status(facts).state == "running" and facts.papers:
            return self._status(facts)
        return self._status(self._make(facts))

    def access(self) -> Access:
        """Of a host where torpor never was, too, if its workspace folder is there: it gets its papers then."""
        facts = self._ask()
        status = self._status(facts)
        if status.state != "running":
            raise MachineError(
                f"{self.address} is {status.state}{f': {status.detail}' if status.detail else ''}.",
                safe="Nothing was changed.",
                remedy=f"Wake a snapshot on it: torpor wake latest --on {self.address}",
            )
        if not status.rental:
            facts = self._make(facts)
        return Access([self.place.path.encode(errors="surrogateescape")], facts.state.encode(errors="surrogateescape"), ssh=self.target)

    def destroy(self, proof: Proof) -> Status:
        """Empty the workspace and remove the records of it. What was begun and broke off is finished by the next call."""
        facts = self._ask()
        state, rental = self._papers(facts)
        if isinstance(proof, Unused):
            raise DestroyRefused(f"{self.address} was never rented.", safe="It was left as it is.", remedy="Hibernate it.")
        if state in ("ending", "destroyed") and rental == proof.rental and proof.machine == self.address:
            return self._end(proof.rental)
        if state != "running":
            raise DestroyRefused(
                f"{self.address} is not running, so there is nothing that a proof could be of.", safe="Nothing was changed."
            )
        proof.check(self.address, rental, self._ground.clock)
        self._judge(facts)
        self._refuse_repository(proof.repository)
        return self._end(rental)

    def _end(self, rental: str) -> Status:
        self._refuse_mounts()
        facts = self._run(ssh_script.end(self.place.path, self.place.mark, rental), _LONG)
        status = self._status(facts)
        if (status.state, status.rental) != ("destroyed", rental):
            raise MachineError(
                f"{self.address} is {status.state} after it was destroyed.",
                safe="The snapshot is kept.",
                remedy="Look what writes into its workspace, stop it, and destroy it again.",
            )
        return status

    def _make(self, facts: _Facts) -> _Facts:
        state, rental = self._papers(facts)
        if state == "ending" and facts.filled:
            raise MachineError(
                f"{self.address} was being destroyed, and its workspace is not empty yet.",
                safe="Nothing was changed.",
                remedy=f"Look what is in {self.place.path}, and empty it.",
            )
        self._judge(facts)
        old = f"{state} {rental}" if state else ""
        made = self._run(ssh_script.make(self.place.path, self.place.mark, secrets.token_hex(16), old))
        self._judge(made)
        return made

    def _ask(self) -> _Facts:
        return self._run(ssh_script.ask(self.place.path, self.place.mark))

    @property
    def shell(self) -> Shell:
        if self._shell is None:
            from torpor.ssh.connect import shell

            made = shell(self.target, self._ground.folder, self._ground.accounts, self._ground.clock, patience=0.0)
            weakref.finalize(self, made.close)
            self._shell = made
        return self._shell

    def _run(self, script: str, seconds: float = 60.0) -> _Facts:
        """Run one of `ssh_script`, which may be run twice: a connection that was kept may turn out to have broken meanwhile."""
        try:
            ran = self.shell.run(script, seconds=seconds)
        except Overdue:
            raise
        except Dropped:
            ran = self.shell.run(script, seconds=seconds)
        if ran.code:
            why = ssh_script.WHY.get(ran.code, f"exit code {ran.code}")
            said = ran.err.decode(errors="replace").strip()[:500]
            raise MachineError(
                f"{self.address}: {why}{f': {said}' if said else ''}.",
                safe="Other files of the host were not touched.",
                remedy="Mend that on the host, then run the command again.",
            )
        lines = [line.partition(" ") for line in ran.out.decode(errors="surrogateescape").splitlines()]
        known = {key: value for key, _, value in lines if key in _Facts.__struct_fields__}
        return _Facts(**known)

    def _papers(self, facts: _Facts) -> tuple[str, str]:
        """(state, rental) as written on the host; both empty if nothing is. Raises `MachineError` if that can't be read."""
        if facts.papers is None:
            return "", ""
        found = _PAPERS.match(facts.papers)
        if found is None:
            raise MachineError(
                f"{self.address} can't be told running from destroyed: its papers are damaged.",
                safe=f"Nothing was changed; its workspace is still in {self.place.path}.",
                remedy=f"Take a copy of that folder if it matters, then remove ~/{facts.state.removesuffix('/state')} on the host.",
            )
        return found[1], found[2]

    def _status(self, facts: _Facts) -> Status:
        state, rental = self._papers(facts)
        if state == "running":
            return Status(self.address, "running", rental)
        if state == "ending":
            return Status(self.address, "destroyed", rental, "what is left in its workspace is still to be removed")
        if state == "destroyed" and not facts.filled:
            return Status(self.address, "destroyed", rental)
        if facts.kind == "none":
            return Status(self.address, "missing")
        return Status(self.address, "running", detail="torpor has not been there yet" if not state else "it is in use again")

    def _judge(self, facts: _Facts) -> None:
        """Raise for a workspace that must never be emptied: one behind a link, or with more in it than its own files."""
        if facts.kind in ("link", "other") or (facts.real and facts.real != self.place.path):
            real = facts.real or "what is there"
            raise MachineError(
                f"{self.place.path} on {self.place.server} is no folder itself, it leads to {real}.",
                safe="Nothing was changed.",
                remedy=f"Name the folder: ssh://{self.place.server}{facts.real or '/absolute/path'}",
            )
        ssh_place.check(self.place.path, facts.home)

    def _refuse_repository(self, repository: str) -> None:
        """The snapshot that proves must not lie in what goes: the host may be this computer, or share a file system with it."""
        if not repository:
            return
        found = self.shell.run(ssh_script.repository(self.place.path, repository), seconds=_LONG).out.decode(errors="surrogateescape")
        if found:
            raise DestroyRefused(
                f"The workspace of {self.address} holds the repository itself: {show_text(found.splitlines()[0])}.",
                safe="Nothing was removed.",
                remedy="Move the repository to another place, name that, and hibernate again.",
            )

    def _refuse_mounts(self) -> None:
        """What is mounted inside is not in the snapshot, and must not go with the rest."""
        inside = f"{self.place.path}/"
        for point in mount_points(self.shell.run(ssh_script.MOUNTS).out.decode(errors="surrogateescape")):
            if point.startswith(inside):
                raise DestroyRefused(
                    f"Something is mounted inside the workspace of {self.address}, at {point}.",
                    safe="Nothing was removed.",
                    remedy="Unmount it, then hibernate again.",
                )
