"""The offers of the emulated vast.ai, and its search with the operators that the real one has."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]

_SPECIAL = {"order", "type", "limit", "allocated_storage", "disable_bundling", "resource", "sort_option", "select_cols"}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "gt": operator.gt,
    "lt": operator.lt,
    "gte": operator.ge,
    "lte": operator.le,
    "in": lambda value, those: value in those,
    "notin": lambda value, those: value not in those,
}


class Unknown(Exception):
    """An operator or a field that the search has not."""


def offer(number: int, gpu: str, price: float, place: str, **changes: Any) -> Row:
    """One row as the search has it. Prices: dollars an hour of the GPUs alone."""
    made: Row = {
        "id": number,
        "ask_contract_id": number,
        "bundle_id": number + 1_000_000,
        "machine_id": number % 100_000,
        "host_id": number % 1000,
        "gpu_name": gpu,
        "num_gpus": 1,
        "gpu_ram": 24564,
        "gpu_total_ram": 24564,
        "gpu_frac": 0.125,
        "cpu_cores_effective": 16.0,
        "cpu_ram": 128_000,
        "disk_space": 500.0,
        "disk_bw": 2500.0,
        "dlperf": 100.0,
        "dph_base": price,
        "min_bid": round(price / 2, 4),
        "inet_up": 800.0,
        "inet_down": 900.0,
        "inet_up_cost": 0.003,
        "inet_down_cost": 0.002,
        "direct_port_count": 100,
        "static_ip": True,
        "public_ipaddr": "127.0.0.1",
        "geolocation": place,
        "reliability": 0.995,
        "reliability2": 0.995,
        "rentable": True,
        "rented": False,
        "external": None,
        "verification": "verified",
        "hosting_type": 0,
        "vms_enabled": False,
        "resource_type": "gpu",
        "storage_cost": 0.15,
        "cuda_max_good": 13.0,
        "driver_version": "580.95.05",
        "compute_cap": 890,
        "duration": 30 * 86_400.0,
    }
    return made | changes


def table() -> list[Row]:
    return [
        offer(7_000_001, "RTX 4090", 0.36, "Washington, US"),
        offer(7_000_002, "RTX 4090", 0.38, "Bavaria, DE"),
        offer(7_000_003, "RTX 4090", 0.41, "Noord-Holland, NL"),
        offer(7_000_004, "RTX 4090", 0.29, "Sichuan, CN", direct_port_count=0),
        offer(7_000_005, "RTX 4090", 0.20, "Texas, US", reliability=0.81, reliability2=0.81, inet_down=60.0),
        offer(7_000_006, "RTX 4090", 0.60, "Iceland, IS", num_gpus=2, dph_base=1.2),
        offer(7_000_007, "RTX 3090", 0.17, "Quebec, CA"),
        offer(7_000_008, "A100 SXM4", 1.10, "California, US", gpu_ram=81_920),
        offer(7_000_009, "H100 SXM", 2.10, "Norway, NO", gpu_ram=81_559, inet_down=7000.0),
        offer(7_000_010, "RTX 4090", 0.10, "Moon, RU", verification="unverified"),
        offer(7_000_011, "", 0.03, "Finland, FI", num_gpus=0, resource_type="cpu", gpu_ram=0),
    ]


def search(rows: list[Row], query: Row) -> list[Row]:
    """What fits, in order, with prices for the storage that is asked for. Raises `Unknown`."""
    bid = query.get("type") == "bid"
    if query.get("type", "ondemand") not in ("on-demand", "ondemand", "bid", "reserved"):
        raise Unknown(f"type {query['type']!r}")
    storage = float(query.get("allocated_storage") or 5.0)
    found = [_priced(row, storage, bid=bid) for row in rows if _fits(row, query)]
    for name, way in reversed(query.get("order") or [["score", "desc"]]):
        found = sorted(found, key=_by(name), reverse=way == "desc")
    return found[: int(query.get("limit") or 64)]


def _by(name: str) -> Callable[[Row], float]:
    return lambda row: row.get(name) or 0.0


def _priced(row: Row, storage: float, *, bid: bool) -> Row:
    hour = row["storage_cost"] * storage / 720
    base = row["min_bid"] if bid else row["dph_base"]
    total = base + hour
    return row | {
        "is_bid": bid,
        "dph_base": base,
        "dph_total": total,
        "storage_total_cost": hour,
        "search": {"gpuCostPerHour": base, "diskHour": hour, "totalHour": total},
    }


def _fits(row: Row, query: Row) -> bool:
    return all(_holds(row, name, rule) for name, rule in query.items() if name not in _SPECIAL)


def _holds(row: Row, name: str, rule: object) -> bool:
    if not isinstance(rule, dict):
        raise Unknown(f"{name}: no rule")
    for how, wanted in rule.items():
        if how not in _COMPARE:
            raise Unknown(f"operator {how!r}")
        if not _COMPARE[how](*_alike(_value(row, name), wanted)):
            return False
    return True


def _value(row: Row, name: str) -> Any:
    if name == "verified":
        return row["verification"] == "verified"
    if name == "geolocation":
        return row["geolocation"].rpartition(",")[2].strip()
    if name == "external":
        return bool(row["external"])
    if name not in row:
        raise Unknown(f"field {name!r}")
    return row[name]


def _alike(value: Any, wanted: Any) -> tuple[Any, Any]:
    """The real service takes numbers as text, too."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and isinstance(wanted, str):
        return value, float(wanted)
    return value, wanted
