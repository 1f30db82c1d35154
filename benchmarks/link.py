"""A link of a given speed between this process and a server in a network namespace of its own. Needs root and Debian's iproute2."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PAYLOAD = 1448 / 1514  # of an Ethernet frame of 1,500 bytes with TCP time stamps: what a link carries for its users


@dataclass
class Far:
    """The far end: a namespace, and its address as seen from here. It reaches `near`, and all else that this computer is, over the link."""

    namespace: str
    address: str
    near: str

    def command(self, *words: str) -> list[str]:
        """A command line that runs there."""
        return ["ip", "netns", "exec", self.namespace, *words]


def available() -> str:
    """Empty if a link can be made here, else why not."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [name for name in ("ip", "tc") if shutil.which(name) is None]
    return f"{' and '.join(missing)} not found (Debian: iproute2)" if missing else ""


@contextmanager
def link(mbit: int, number: int = 0, delay_ms: int = 0) -> Iterator[Far]:
    """A veth pair, both ends limited to `mbit` by a token bucket; `delay_ms` is added to each way. `number` (0 to 99) tells links apart."""
    name = f"torpor{os.getpid() % 10_000}x{number}"
    near, far = f"v{os.getpid() % 10_000}n{number}", f"v{os.getpid() % 10_000}f{number}"
    mine, theirs = f"10.231.{number}.1", f"10.231.{number}.2"
    rate = ["tbf", "rate", f"{mbit}mbit", "burst", "256kb", "latency", "40ms"]
    late = ["netem", "delay", f"{delay_ms}ms", "limit", "20000"]
    commands: list[Sequence[str]] = [
        ["ip", "netns", "add", name],
        ["ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", name],
        ["ip", "addr", "add", f"{mine}/30", "dev", near],
        ["ip", "link", "set", near, "up"],
        ["ip", "-n", name, "addr", "add", f"{theirs}/30", "dev", far],
        ["ip", "-n", name, "link", "set", far, "up"],
        ["ip", "-n", name, "link", "set", "lo", "up"],
        ["ip", "-n", name, "route", "add", "default", "via", mine],
    ]
    for inside, device in (((), near), (("ip", "netns", "exec", name), far)):
        if delay_ms:
            commands.append([*inside, "tc", "qdisc", "add", "dev", device, "root", "handle", "1:", *late])
            commands.append([*inside, "tc", "qdisc", "add", "dev", device, "parent", "1:", *rate])
        else:
            commands.append([*inside, "tc", "qdisc", "add", "dev", device, "root", *rate])
    try:
        for command in commands:
            subprocess.run(command, check=True, capture_output=True)
        yield Far(name, theirs, mine)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)  # its devices go with it
        subprocess.run(["ip", "link", "del", near], check=False, capture_output=True)


@contextmanager
def serving(command: Sequence[str], address: str, port: int, log: Path) -> Iterator[None]:
    """A server that runs inside the block; it is waited for, by connecting to it."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        _wait(process, address, port, log)
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        if process.poll() is None:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], address: str, port: int, log: Path) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((address, port), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{process.args!r} does not serve: {log.read_text(errors='replace')[-500:]}") from None
            time.sleep(0.05)
        else:
            return
