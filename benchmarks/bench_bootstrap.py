"""A bare host made ready over a real sshd on loopback: seconds and bytes, the first time and the second.

./dev bench bootstrap [--rounds N] [--save NAME]

The host has a Python and nothing else of ours; each first time its engines are deleted before. Each time begins without a connection.
What a slower link adds is told in megabytes: bytes that were sent, over its speed.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import time
from pathlib import Path

from benchmarks.measure import median, options, run, save, scratch, table
from tests.emulators.sshd import Sshd
from torpor.remote.bootstrap import Engine, bootstrap, prepare
from torpor.remote.platforms import of
from torpor.ssh.connect import SshShell

HERE = "from torpor.remote.serve import Line, say; say(Line(torpor='here'))"  # as far as the greeting


def connected(host: Sshd, cache: Path) -> tuple[float, Engine]:
    """Seconds with the connection, and what came of it."""
    began = time.perf_counter()
    shell = SshShell(host.target)
    engine = bootstrap(shell, cache)
    took = time.perf_counter() - began
    shell.close()
    return took, engine


def greeting(shell: SshShell, engine: Engine) -> float:
    """Seconds until the engine on the host says what it is."""
    began = time.perf_counter()
    channel = shell.open(shlex.join(engine.command))
    assert channel.out.readline()
    took = time.perf_counter() - began
    channel.close()
    return took


def measure(folder: Path, rounds: int) -> tuple[dict[str, list[float]], Engine]:
    """Seconds by what was done; the first round is not counted."""
    times: dict[str, list[float]] = {"bundle": [], "first": [], "second": [], "start on the host": [], "start here": []}
    with Sshd(folder / "machine") as host:
        for number in range(rounds + 1):
            shutil.rmtree(host.home / ".torpor", ignore_errors=True)
            _, engine = connected(host, folder / "bundles")
            shutil.rmtree(host.home / ".torpor")
            shutil.rmtree(folder / "bundles")
            python = engine.facts.python(sys.version_info[:2])
            began = time.perf_counter()
            prepare(of(engine.facts, python), folder / "bundles")
            made = time.perf_counter() - began
            first, engine = connected(host, folder / "bundles")
            second, again = connected(host, folder / "bundles")
            assert engine.fresh
            assert not again.fresh
            shell = SshShell(host.target)
            shell.run("true")
            found = (made, first, second, greeting(shell, engine), run([sys.executable, "-c", HERE]).wall)
            shell.close()
            if number:
                for name, value in zip(times, found, strict=True):
                    times[name].append(value)
    return times, engine


def main() -> None:
    parser = options(__doc__, folder=False)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with scratch() as folder:
        times, engine = measure(folder, given.rounds)
    rows = [[name, f"{median(values):.2f}", f"{min(values):.2f}", f"{max(values):.2f}"] for name, values in times.items()]
    data: dict[str, object] = {name: [round(value, 3) for value in values] for name, values in times.items()}
    data["bytes"] = engine.sent_bytes
    print(json.dumps(data) if given.json else table(["seconds", "median", "least", "most"], rows))
    print(f"sent the first time: {engine.sent_bytes / 1e6:.1f} MB", file=sys.stderr)
    if given.save:
        save(f"bootstrap-{given.save}", data)


if __name__ == "__main__":
    main()
