"""What an instance of vast.ai is, from what the service says of it. Pure.

`actual_status` is of the container, `cur_state` and `next_state` are of the contract, `intended_status` is what was asked for. Follows
vast.ai's pages, and what dstack's backend concludes from the same fields (2026-08).
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, NamedTuple

from torpor.errors import MachineError
from torpor.machines.base import State
from torpor.machines.vast_papers import Papers

SCHEDULING = 120.0  # seconds that an instance may wait for its GPU: it may wait for ever
MONTH = 720.0  # hours, of prices of disks
_OCI = ": OCI runtime create failed:"
_DEAD = {
    "exited": "its container ended",
    "unknown": "its host does not report",
    "offline": "its host is offline",
}
_BOOTING = ("", "created", "loading", "rebooting", "scheduling")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]{0,252}[A-Za-z0-9])?\Z")


class Seen(NamedTuple):
    """`price`: dollars an hour now; None where nobody says."""

    state: State
    detail: str
    price: float | None


def rental(instance: str) -> str:
    """The identity of an instance, whose number is never given twice: 32 hex digits."""
    return hashlib.sha256(b"vast:" + instance.encode()).hexdigest()[:32]


def judge(found: dict[str, Any], papers: Papers, now: float) -> Seen:
    """What the service says, as a state. Ours to add: what we asked for, and since when."""
    actual = text(found, "actual_status").lower()
    contract, wanted = text(found, "cur_state").lower(), text(found, "intended_status").lower()
    after = text(found, "next_state").lower() or contract
    said = text(found, "status_msg")
    disk, whole = _prices(found)
    if actual in ("unknown", "offline"):
        return Seen("unreachable", _join(_DEAD[actual], said), None)
    if contract in ("stopped", "unloaded"):
        if wanted == "running":
            return _scheduling(papers, now, said, disk)
        if after == "running":
            return Seen("starting", said, disk)
        if papers.wish == "running":
            return Seen("interrupted", _join("stopped, and not by us: outbid, or the account's credit is used up", said), disk)
        return Seen("stopped", said, disk)
    if _OCI in said and actual in ("", "created", "loading"):
        return Seen("unreachable", _join("its container can't be made", said), whole)
    if wanted == "stopped":
        return Seen("stopped", _join("it is being stopped", said), whole)
    if actual == "running":
        if addresses(found):
            return Seen("running", said, whole)
        return Seen("starting", _join("its ports are not open yet", said), whole)
    if actual in _BOOTING:
        return Seen("starting", _join(actual, said), disk)  # loading is not billed as running
    if actual == "frozen":
        return Seen("interrupted", _join("its container is held still", said), whole)
    return Seen("unreachable", _join(_DEAD.get(actual, f"its container is {actual[:30]}"), said), whole)


def _scheduling(papers: Papers, now: float, said: str, disk: float | None) -> Seen:
    """It is wanted and does not run: it waits for its GPU, which somebody else has."""
    detail = _join("Scheduling: it waits for its GPU", said)
    if papers.wish == "running" and papers.asked and now - papers.asked >= SCHEDULING:
        return Seen("interrupted", f"{detail}; for more than {SCHEDULING:.0f} s now", disk)
    return Seen("starting", detail, disk)


def addresses(found: dict[str, Any]) -> list[tuple[str, int]]:
    """Where its SSH server can be: directly, if a port is open for that, then through the service's proxy, which is slow and shared."""
    ways: list[tuple[str, int]] = []
    ports = found.get("ports")
    bound = ports.get("22/tcp") if isinstance(ports, dict) else None
    for one in bound if isinstance(bound, list) else []:
        _add(ways, text(found, "public_ipaddr"), one.get("HostPort") if isinstance(one, dict) else None, 0)
    jupyter = "jupyter" in text(found, "image_runtype")  # its proxy's SSH is one port further
    _add(ways, text(found, "ssh_host"), found.get("ssh_port"), 1 if jupyter else 0)
    return ways


def _add(ways: list[tuple[str, int]], host: str, port: object, more: int) -> None:
    if not _HOST.match(host) or not re.fullmatch(r"[0-9]{1,5}", str(port)):
        return
    way = (host, int(str(port)) + more)
    if 0 < way[1] < 65536 and way not in ways:
        ways.append(way)


def _prices(found: dict[str, Any]) -> tuple[float | None, float | None]:
    """(disk alone, all): dollars an hour. None where it is not told."""
    whole, base = number(found, "dph_total"), number(found, "dph_base")
    month, size = number(found, "storage_cost"), number(found, "disk_space")
    disk: float | None = None
    if month is not None and size is not None:
        disk = month * size / MONTH
    elif whole is not None and base is not None and whole >= base:
        disk = whole - base
    return (None if disk is None else round(disk, 6)), (None if whole is None else round(whole, 6))


def text(found: dict[str, Any], name: str) -> str:
    """A field as one printable line without spaces at its ends; empty if there is none. Addresses have been seen with spaces."""
    value = found.get(name)
    if value is None or isinstance(value, (dict, list)):
        return ""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in str(value)[:400]).split())


def number(found: dict[str, Any], name: str) -> float | None:
    """A field as a number that is finite and not negative; None if it is none. The service writes some as text."""
    value = found.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        got = float(value)
    except (ValueError, OverflowError):  # a whole number of hundreds of digits
        return None
    return got if 0 <= got < 1e18 else None


def _join(*parts: str) -> str:
    return ": ".join(part for part in parts if part)


def not_running(address: str, state: str, detail: str) -> MachineError:
    return MachineError(
        f"{address} is {state}{f': {detail}' if detail else ''}.",
        safe="Nothing was changed.",
        remedy="Wake a snapshot on another machine: torpor wake latest --gpu …"
        if state in ("missing", "destroyed")
        else "Look again in a minute, or start it.",
    )
