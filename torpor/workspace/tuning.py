"""Settings of the kernel's network that long and fast links need, tried one by one.

A container without privileges has `/proc/sys` read-only, and all of this is `denied`: there, many connections make the speed. Nothing
is loaded into the kernel, and nothing here fails a job.
"""

from __future__ import annotations

import errno
import os
from typing import Literal, NamedTuple

Outcome = Literal["applied", "already", "denied", "unsupported"]

MOST = 128 * 1024 * 1024  # bytes in flight: 10 Gbit/s over 100 ms

# In this order: the buffers' bounds go before the buffers. Numbers are raised and never lowered, words are set.
WANTED: dict[str, str] = {
    "net.core.rmem_max": f"{MOST}",
    "net.core.wmem_max": f"{MOST}",
    "net.ipv4.tcp_rmem": f"4096 131072 {MOST}",
    "net.ipv4.tcp_wmem": f"4096 65536 {MOST}",
    "net.core.default_qdisc": "fq",  # paces what bbr sends; for interfaces that come up later
    "net.ipv4.tcp_congestion_control": "bbr",
    "net.ipv4.tcp_window_scaling": "1",
    "net.ipv4.tcp_slow_start_after_idle": "0",
    "net.ipv4.tcp_no_metrics_save": "1",
    "net.ipv4.tcp_notsent_lowat": "131072",
}
_BOUNDS = ("net.core.rmem_max", "net.core.wmem_max", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem")
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


class Tuned(NamedTuple):
    """`outcomes` by key. `before`: the values that were there of those that were changed, for `revert`."""

    outcomes: dict[str, Outcome]
    before: dict[str, str]


def tune(root: bytes = b"/proc/sys") -> Tuned:
    """Set what can be set. `unsupported`: this kernel, or this container's part of it, has no such key or no such value."""
    tuned = Tuned({}, {})
    for key, wanted in WANTED.items():
        path = _path(root, key)
        try:
            now = _read(path)
            goal = _goal(key, now, wanted)
            if goal == now:
                tuned.outcomes[key] = "already"
                continue
            _write(path, goal)
            tuned.before[key] = now
            tuned.outcomes[key] = "applied" if _read(path) == goal else "denied"
        except OSError as error:
            tuned.outcomes[key] = "denied" if error.errno in _DENIED else "unsupported"
        except ValueError:
            tuned.outcomes[key] = "unsupported"
    return tuned


def revert(before: dict[str, str], root: bytes = b"/proc/sys") -> dict[str, str]:
    """Put `Tuned.before` back, last first; what could not be put back."""
    left = {}
    for key, value in reversed(before.items()):
        try:
            if key in WANTED:  # of a state file that a stranger wrote, too
                _write(_path(root, key), value)
        except OSError:
            left[key] = value
    return left


def _path(root: bytes, key: str) -> bytes:
    return os.path.join(root, *key.encode().split(b"."))


def _goal(key: str, now: str, wanted: str) -> str:
    """For bounds the greater of both, number by number; `ValueError` if they are not of one shape."""
    if key not in _BOUNDS:
        return wanted
    pairs = zip(now.split(), wanted.split(), strict=True)
    return " ".join(str(max(int(mine), int(theirs))) for mine, theirs in pairs)


def _read(path: bytes) -> str:
    with open(path, encoding="ascii") as file:
        return " ".join(file.read().split())  # the kernel puts tabs between numbers


def _write(path: bytes, value: str) -> None:
    """In one write, as the kernel wants it, to a file that is there."""
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.write(fd, value.encode() + b"\n")
    finally:
        os.close(fd)
