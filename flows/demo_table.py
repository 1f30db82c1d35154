"""The demo's one table."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import Any

from tasks.words import amount, rate
from torpor.control.kinds import Kind, by_kind
from torpor.control.repository import open_repository
from torpor.settings import load
from torpor.units import size

WIDTH = 100
_SUFFIXES = {
    "weights (.safetensors)": ".safetensors",
    "checkpoints, optimizer state (.pt …)": ".pt .pth .ckpt .bin .gguf .npz .npy",
    "images, archives (.jpg …)": ".jpg .jpeg .png .webp .mp4 .mp3 .wav .zip .gz .xz .zst .whl .parquet",
    "code, text, tables (.py, .csv …)": ".py .csv .json .jsonl .md .txt .sh .yaml .yml .toml .ipynb .log",
}
_KINDS = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
_MADE_UP = {"weights (.safetensors)": "bf16 weights (.safetensors)", "checkpoints, optimizer state (.pt …)": "fp32 optimizer state (.pt)"}
_PACKAGES = (b".venv/", b"venv/", b"site-packages/", b"node_modules/")


def kind_of(path: bytes) -> str:
    """What people would call a file with this path."""
    if any(path.startswith(folder) or b"/" + folder in path for folder in _PACKAGES):
        return "packages (.venv)"
    suffix = os.fsdecode(os.path.splitext(path)[1]).lower()
    return _KINDS.get(suffix, "other files")


def lines(slept: Mapping[str, Any], woke: Mapping[str, Any], again: Mapping[str, Any], made_up: bool) -> list[str]:
    """The table as lines of text. What is in a workspace that was made up is known better than its suffixes tell."""
    from rich.console import Console
    from rich.table import Table

    kinds = by_kind(open_repository(load()), slept["snapshot"], kind_of)
    table = Table(title=f"{slept['machine']} hibernated, destroyed, awake again on {woke['machine']}", title_style="", header_style="")
    for heading in ("", "size", "stored, or rate", "ratio", "seconds"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    for kind, sizes in sorted(kinds.items(), key=lambda item: -item[1].raw_bytes):
        table.add_row(*_kind(_MADE_UP.get(kind, kind) if made_up else kind, sizes))
    table.add_section()
    raw, stored = slept["raw_bytes"], slept["stored_bytes"]
    table.add_row("whole workspace, " + amount(slept["files"], "files"), size(raw), size(stored), f"{raw / stored:.2f}", "")
    table.add_section()
    for what, result in (("hibernate", slept), ("wake", woke)):
        for stage, one in result["stages"].items():
            done, unit, seconds = one["done"], one["unit"], one["seconds"]
            if done:
                table.add_row(f"{what}: {stage}", amount(done, unit), rate(done, seconds, unit), "", f"{seconds:.2f}")
    table.add_section()
    table.add_row("hibernated: saved, proven, destroyed", "", "", "", f"{slept['seconds']:.2f}")
    table.add_row("awake: usable after", "", "", "", f"{woke['usable_seconds']:.2f}")
    table.add_row("awake: complete after", "", "", "", f"{woke['seconds']:.2f}")
    table.add_row("every file compared with the original", amount(slept["files"], "files"), "all the same", "", "")
    read = f"{amount(again['read_files'], 'files')} read"
    table.add_row("unchanged, saved again", read, f"{size(again['new_bytes'])} new", "", f"{again['snapshot_seconds']:.2f}")
    out = io.StringIO()
    Console(file=out, width=WIDTH, color_system=None).print(table)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def _kind(kind: str, sizes: Kind) -> tuple[str, ...]:
    ratio = f"{sizes.raw_bytes / sizes.stored_bytes:.2f}" if sizes.stored_bytes else ""
    return f"{kind}, {amount(sizes.files, 'files')}", size(sizes.raw_bytes), size(sizes.stored_bytes), ratio, ""
