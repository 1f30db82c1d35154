"""torpor show: one snapshot."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torpor.cli import amounts
from torpor.cli.parameters import argument, flag

if TYPE_CHECKING:
    from torpor.cli.session import Session
    from torpor.control.catalogue import Snapshot
    from torpor.control.listing import Item
    from torpor.format.manifest import Receipt
    from torpor.format.meta import Problem
    from torpor.workspace.indexfile import IndexFile

PARAMETERS = (
    argument("SNAPSHOT", "An id, the beginning of one, or latest."),
    flag("--files", "List its files."),
    flag("--long", "With --files: type, permissions, owner, size and time of each."),
)


def run(session: Session, snapshot: str, files: bool, long: bool) -> int:
    """What the manifest says, the receipts there are, and the files that could not be saved as they are."""
    from torpor.control import catalogue, copylist, listing, receipts
    from torpor.control.commit import manifest_json
    from torpor.jobs import show_path

    repository = session.repository()
    found = catalogue.load(repository, catalogue.resolve(repository, snapshot))
    proofs = receipts.load_all(repository, found.id)
    copies = copylist.urls_of(repository, found.id)
    with listing.opened(repository, found) as index:
        problems = index.problems()
        answer = manifest_json(found) | {
            "snapshot_id": found.id,
            "receipts": [_receipt_fields(receipt) for receipt in proofs],
            "problem_files": [{"path": show_path(p.path), "kind": p.kind, "detail": p.detail} for p in problems],
            "copies": copies,
            "roots": [show_path(root.path) for root in index.meta.roots],
            "excludes": index.meta.excludes,
        }
        if not files:
            _show(session, found, proofs, problems, index, copies)
            session.answer(answer)
            return 0
        if session.json:
            session.answer_with("paths", _entries(index, long), lambda: answer)
            return 0
        for item in listing.items(index):
            session.say(_long(item, index) if long else show_path(item.path) + ("/" if item.kind == "directory" else ""))
    return 0


def _show(session: Session, found: Snapshot, proofs: list[Receipt], problems: list[Problem], index: IndexFile, copies: list[str]) -> None:
    from torpor.jobs import show_path, show_text

    manifest, private = found.manifest, found.private
    rows: list[tuple[str, str]] = [
        ("snapshot", found.id),
        ("created", manifest.created),
        ("name", private.name if private else "(sealed)"),
        ("machine", private.machine if private else "(sealed)"),
        ("labels", ", ".join(f"{key}={value}" for key, value in private.labels.items()) if private else "(sealed)"),
        ("folders", ", ".join(show_path(root.path) for root in index.meta.roots)),
        ("lineage", f"{manifest.lineage}, generation {manifest.generation}"),
        ("parent", manifest.parent or ""),
        ("files", f"{manifest.files:,}; {manifest.directories:,} directories, {amounts.count(manifest.links, 'link')}"),
        ("raw", amounts.size(manifest.raw_bytes)),
        ("stored", f"{amounts.size(manifest.stored_bytes)} (ratio {manifest.ratio:.2f}), new {amounts.size(manifest.new_bytes)}"),
        ("packs", f"{manifest.packs:,}, {amounts.count(manifest.chunks, 'chunk')}"),
        ("codecs", ", ".join(f"{k} {amounts.size(u.raw_bytes)} → {amounts.size(u.coded_bytes)}" for k, u in manifest.codecs.items())),
        ("copies", ", ".join(copies)),
        ("took", amounts.seconds(manifest.seconds)),
        ("versions", ", ".join(f"{key} {value}" for key, value in manifest.versions.items())),
    ]
    for name, text in rows:
        if text:
            session.say(f"{name:10} {show_text(text)}")
    session.say(f"{'receipts':10} {amounts.count(len(proofs), 'receipt') if proofs else 'none: `torpor verify` makes one'}")
    for receipt in proofs:
        read = "all" if receipt.read_packs == "all" else len(receipt.read_packs)
        session.say(f"{'':10} {receipt.time}  {receipt.depth}: {read} of {amounts.count(receipt.packs, 'pack')} read back")
    for problem in problems:
        session.say(
            f"{'problem':10} {problem.kind}: {show_path(problem.path)}" + (f" ({show_text(problem.detail)})" if problem.detail else "")
        )


def _receipt_fields(receipt: Receipt) -> dict[str, Any]:
    return {
        "time": receipt.time, "depth": receipt.depth, "packs": receipt.packs, "pack_bytes": receipt.pack_bytes,
        "read_packs": receipt.packs if receipt.read_packs == "all" else len(receipt.read_packs), "files": receipt.files,
        "host_checked": receipt.host is not None,
    }  # fmt: skip


def _target(item: Item, index: IndexFile) -> str:
    from torpor.control.listing import place_of
    from torpor.jobs import show_path

    content = item.block.content[item.row]
    if isinstance(content, bytes):
        return show_path(content)
    return show_path(place_of(index, content)) if isinstance(content, int) else ""


def _long(item: Item, index: IndexFile) -> str:
    from datetime import datetime, timezone

    from torpor.jobs import show_path, show_text

    block, row = item.block, item.row
    kinds = {"directory": stat.S_IFDIR, "link": stat.S_IFLNK}
    mode = "?????????? " if item.kind == "absent" else stat.filemode(kinds.get(item.kind, stat.S_IFREG) | block.mode[row])
    uid, gid = str(block.uid[row]), str(block.gid[row])
    owner = show_text(f"{index.meta.users.get(uid, uid)}:{index.meta.groups.get(gid, gid)}")
    when = datetime.fromtimestamp(block.mtime[row] // 10**9, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    arrow = {"link": " -> ", "hardlink": " => "}.get(item.kind, "")
    return f"{mode} {owner:16} {block.size[row]:>14,} {when}  {show_path(item.path)}" + (arrow + _target(item, index) if arrow else "")


def _entries(index: IndexFile, long: bool) -> Iterator[dict[str, Any]]:
    from torpor.control.listing import items
    from torpor.jobs import show_path

    for item in items(index):
        block, row = item.block, item.row
        fields: dict[str, Any] = {"path": show_path(item.path), "type": item.kind, "size": block.size[row]}
        if long:
            fields |= {
                "mode": f"{block.mode[row]:04o}", "uid": block.uid[row], "gid": block.gid[row], "mtime_ns": block.mtime[row],
                "target": _target(item, index) or None,
            }  # fmt: skip
        yield fields
