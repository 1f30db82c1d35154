"""What people see of a run beside its timeline: progress, tables, the receipt. Sizes, counts and names; never keys."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact, create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectException

from tasks.words import amount, rate
from torpor.format.manifest import Receipt
from torpor.units import size

logger = logging.getLogger("prefect.torpor.artifacts")


class Progress:
    """One progress artifact, made at its first figure. For a task's own thread, once a second at most: an update takes about 10 ms."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._id: UUID | None = None

    def show(self, percent: float, text: str) -> None:
        if self._id is None:
            made = create_progress_artifact(progress=percent, key=f"{self._key}-progress", description=f"{self._key}: {text}")
            self._id = made if isinstance(made, UUID) else None
        else:
            update_progress_artifact(artifact_id=self._id, progress=percent, description=f"{self._key}: {text}")


@asynccontextmanager
async def _shown(key: str) -> AsyncIterator[None]:
    """What is shown is not what was done: a server that takes no table fails no run."""
    try:
        yield
    except (PrefectException, httpx.HTTPError, OSError) as error:
        logger.warning("The artifact %s was not kept: %s: %s", key, type(error).__name__, error)


async def table(key: str, rows: Sequence[Mapping[str, str]], description: str) -> None:
    async with _shown(key):
        await acreate_table_artifact(table=[dict(row) for row in rows], key=key, description=description)


def hibernated(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Rows of a hibernation: sizes, ratio by codec, stages with their rates, the receipt."""
    raw, stored = result["raw_bytes"], result["stored_bytes"]
    rows = [
        _row("workspace", size(raw), amount(result["files"], "files")),
        _row("snapshot", size(stored), _ratio(raw, stored)),
        _row("sent by this run", size(result["new_bytes"]), amount(result["rounds"], "rounds")),
    ]
    for name, use in sorted(result["codecs"].items()):
        raw, coded = use["raw_bytes"], use["coded_bytes"]
        rows.append(_row(f"codec {name}", f"{size(raw)} → {size(coded)}", _ratio(raw, coded)))
    return [*rows, *_stages(result), _row("receipt", result["receipt"], result["depth"])]


def woken(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Rows of a wake: sizes, times, stages with their rates."""
    return [
        _row("workspace", size(result["raw_bytes"]), amount(result["files"], "files")),
        _row("fetched", size(result["fetched_bytes"]), amount(result["requests"], "requests")),
        _row("written", size(result["written_bytes"]), amount(result["written_files"], "files")),
        _row("usable after", f"{result['usable_seconds']:.2f} s", ""),
        _row("complete after", f"{result['seconds']:.2f} s", ""),
        *_stages(result),
    ]


def replicated(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row a machine: how long until it was usable and whole, or why it is not."""
    rows = []
    for one in result["machines"]:
        if one["ok"]:
            rows.append(
                _row(one["machine"], f"usable {one['usable_seconds']:.1f} s, whole {one['seconds']:.1f} s", size(one["fetched_bytes"]))
            )
        else:
            rows.append(_row(one["machine"], "failed", one["failure"]["what"]))
    return rows


def _row(what: str, figure: str, more: str) -> dict[str, str]:
    return {"what": what, "figure": figure, "more": more}


def _ratio(raw: int, stored: int) -> str:
    return f"ratio {raw / stored:.2f}" if stored else ""


def _stages(result: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = []
    for name, one in result["stages"].items():
        done, unit, seconds = one["done"], one["unit"], one["seconds"]
        rows.append(_row(f"stage {name}", f"{amount(done, unit)} in {seconds:.2f} s", rate(done, seconds, unit)))
    return rows


async def receipt(found: Receipt, name: str) -> None:
    """The receipt in words, with the name of its signed object in the store."""
    host = found.host
    checked = "not asked" if host is None else f"{host.final_check.changed} changes at {host.final_check.time}"
    accepted = ", ".join(host.final_check.accepted) if host is not None else ""
    read = found.read_packs if isinstance(found.read_packs, str) else len(found.read_packs)
    lines: list[tuple[str, Any]] = [
        ("snapshot", found.snapshot),
        ("verified at", found.time),
        ("depth", found.depth),
        ("packs", f"{found.packs} ({size(found.pack_bytes)}), {read} read"),
        ("files", f"{found.files:,}"),
        ("last look at the machine", checked),
        ("accepted losses", accepted or "none"),
        ("SHA-256 of the manifest", found.manifest_sha256),
        ("signed receipt", f"`{name}`"),
    ]
    text = "\n".join(["# Recovery receipt", "", "| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in lines)])
    async with _shown("recovery-receipt"):
        await acreate_markdown_artifact(markdown=text, key="recovery-receipt", description=f"What was proven of {found.snapshot}")
