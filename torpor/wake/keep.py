"""Leaves a stat record behind, so that the first snapshot after a wake reads nothing that is unchanged."""

from __future__ import annotations

from array import array

from torpor.format import crypto, zstd
from torpor.jobs import RestoreJob
from torpor.wake.files import Kept
from torpor.wake.survey import Survey
from torpor.workspace import system
from torpor.workspace.record import Footer, RecordPack, RecordWriter, Stats, live_bytes
from torpor.workspace.state import State


def keep_record(
    job: RestoreJob, state: State, workspace: str, survey: Survey, kept: Kept, checked: dict[int, int], roots: list[bytes]
) -> None:
    """Write the record. A chunk is trusted if every reference to it was checked: `checked` counts them by place."""
    index = survey.index
    chunks = index.chunks
    trusted = bytes(chunks.is_hole(place) or checked.get(place, 0) >= survey.references[place] for place in range(len(chunks)))
    writer = RecordWriter(state.record(workspace))
    try:
        for base, rows, raw in index.frames():
            stats = Stats(
                survey.device[base : base + rows],
                survey.inode[base : base + rows],
                survey.ctime[base : base + rows],
                array("B", kept.flags[base : base + rows]),
            )
            writer.block(rows, len(raw), zstd.compress(raw), stats)
        live = live_bytes(chunks, survey.used, len(index.head.packs))
        footer = Footer(
            lineage=job.lineage, ticket=crypto.ticket(job.keys.id_key), snapshot=job.snapshot, rental=state.rental(),
            roots=roots, raw_bytes=survey.raw_bytes,
            stable_inodes=all(system.stable_inodes(root) for root in roots),
            packs=[RecordPack(p.name, p.size, p.blake3, p.salt, n) for p, n in zip(index.head.packs, live, strict=True)],
        )  # fmt: skip
        writer.finish(footer, chunks, trusted)
    finally:
        writer.abandon()
