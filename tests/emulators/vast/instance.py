"""One instance of the emulated vast.ai: its life by a clock, and what the service says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Row = dict[str, Any]
Trouble = Literal["", "oci", "never", "scheduling"]
MONTH = 720.0  # hours


class Box(Protocol):
    """What answers at an instance's port."""

    @property
    def port(self) -> int: ...

    def boot(self, onstart: str, keys: list[str]) -> None: ...

    def authorize(self, keys: list[str]) -> None: ...

    def halt(self) -> None: ...

    def remove(self) -> None: ...


@dataclass
class Instance:
    """`boot`: seconds from a start to running. `contract`: whether it has its GPU. `intended`: what was asked for."""

    id: int
    offer: Row
    body: Row
    box: Box
    created: float
    boot: float
    trouble: Trouble = ""
    contract: Literal["running", "stopped"] = "running"
    intended: Literal["running", "stopped"] = "running"
    started: float = 0.0
    alive: bool = True  # its host reports
    exited: bool = False
    up: bool = False  # the box has booted
    price: float | None = None
    label: str = ""
    keys: list[Row] = field(default_factory=list)
    token: str = ""

    @property
    def disk(self) -> float:
        return float(self.body["disk"])

    def actual(self, now: float) -> str | None:
        if not self.alive:
            return "offline"
        if self.contract == "stopped":
            return None if self.intended == "running" and not self.up else "stopped"
        if self.exited:
            return "exited"
        since = now - self.started
        if self.trouble == "oci":
            return None if since < 0.1 * self.boot else "created"
        if since < 0.1 * self.boot:
            return None
        if since < 0.2 * self.boot:
            return "created"
        return "loading" if since < self.boot or self.trouble == "never" else "running"

    def settle(self, now: float, lines: list[str]) -> None:
        """Bring the box into the state that the service tells."""
        running = self.actual(now) == "running"
        if running and not self.up:
            self.box.boot(self.body.get("onstart") or "", lines)
            self.up = True
        elif not running and self.up:
            self.box.halt()
            self.up = False

    def _words(self, actual: str | None) -> str:
        image = self.body["image"]
        if self.trouble == "oci" and actual == "created":
            return (
                "Error response from daemon: failed to create task for container: failed to create shim task"
                ": OCI runtime create failed: runc create failed: unable to start container process\n"
            )
        if actual == "running":
            return f"success, running {image}/ssh\n"
        return {"loading": "5f70bf18a086: Pull complete\n", "exited": "exited (1)"}.get(actual or "", "")

    def row(self, now: float) -> Row:
        """As `GET /instances/` has it."""
        actual = self.actual(now)
        running = actual == "running"
        storage = self.offer["storage_cost"] * self.disk / MONTH
        base = self.price if self.price is not None else self.offer["dph_base"]
        copied = ("machine_id", "host_id", "geolocation", "gpu_name", "num_gpus", "gpu_ram", "cpu_cores_effective", "cpu_ram", "inet_up",
                  "inet_down", "reliability2", "storage_cost", "verification", "driver_version", "min_bid", "static_ip")  # fmt: skip
        ports = {
            "22/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(self.box.port)}, {"HostIp": "::", "HostPort": str(self.box.port)}],
            "8080/tcp": [{"HostIp": "0.0.0.0", "HostPort": "1"}],
        }
        return {name: self.offer[name] for name in copied} | {
            "id": self.id,
            "label": self.label or None,
            "actual_status": actual,
            "intended_status": self.intended,
            "cur_state": self.contract,
            "next_state": self.contract,
            "status_msg": self._words(actual),
            "ssh_host": "localhost",
            "ssh_port": self.box.port,
            "ssh_idx": "1",
            "public_ipaddr": "127.0.0.1\n",  # the service has been seen to leave white space there
            "ports": ports if running else None,
            "direct_port_count": self.offer["direct_port_count"],
            "is_bid": self.price is not None,
            "dph_base": base,
            "dph_total": base + storage,
            "start_date": self.created,
            "end_date": self.created + self.offer["duration"],
            "duration": self.offer["duration"],
            "uptime_mins": None,
            "image_uuid": self.body["image"],
            "image_runtype": self.body.get("runtype") or "ssh_proxy",
            "extra_env": [[name, value] for name, value in (self.body.get("env") or {}).items()],
            "onstart": self.body.get("onstart"),
            "disk_space": self.disk,
            "disk_usage": 0.1,
            "template_id": None,
        }
