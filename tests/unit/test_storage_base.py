from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor import errors
from torpor.format import names
from torpor.format.index import DIGESTS
from torpor.storage import base
from torpor.storage.memory import MemoryStore


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "it is empty"),
        ("x" * 201, "longer than 200"),
        ("/etc/passwd", "names are relative"),
        ("a//b", "empty component"),
        ("a/", "empty component"),
        ("../a", "leads to another place"),
        ("a/./b", "leads to another place"),
        ("a/.tmp-1", "begins with a dot"),
        ("a b", "only letters"),
        ("a\n", "only letters"),
        ("\u212a", "only letters"),
        ("\u0661", "only letters"),
    ],
)
def test_a_bad_name_is_refused_with_the_reason(name: str, reason: str) -> None:
    assert not base.is_name(name)
    with pytest.raises(base.BadName, match=reason) as caught:
        base.check_name(name)
    assert str(caught.value).isascii()


def test_every_name_of_the_format_is_a_name() -> None:
    snapshot = names.snapshot_id(1_800_000_000.0, b"\1\2\3\4")
    for name in (
        names.CONFIG,
        names.manifest(snapshot),
        names.claim(snapshot),
        names.removed(snapshot),
        names.receipt(snapshot, 1_800_000_000.0),
        names.mark(1_800_000_000.0, b"\1\2\3\4"),
        names.PACKS + names.pack(snapshot, "89abcdef", 123_456_789),
        names.PACKS + names.index(snapshot, "89abcdef"),
    ):
        base.check_name(name)
    for prefix in (names.SNAPSHOTS, names.RECEIPTS, names.CLAIMS, names.MARKS, names.REMOVED, names.PACKS, names.KEYS, ""):
        base.check_prefix(prefix)
    assert base.PACKS == names.PACKS


@given(st.text(alphabet="ab./-_ \\\0é", max_size=8))
def test_a_name_is_what_a_path_leaves_alone(name: str) -> None:
    parts = name.split("/")
    plain = all(part and not part.startswith(".") and not set(part) & set(" \\\0é") for part in parts)
    assert base.is_name(name) == plain


def test_digest_kinds_are_the_formats() -> None:
    for kind in ("none", "md5", "sha1", "sha256"):
        assert MemoryStore(digest=kind).put("a", b"x").digest_kind in DIGESTS


def test_parts_are_views_of_the_same_memory() -> None:
    data = bytearray(b"0123456789")
    parts = base.parts_of([memoryview(data)[2:4], b"", data])
    assert [bytes(part) for part in parts] == [b"23", b"0123456789"]
    data[2] = ord("x")
    assert bytes(parts[0]) == b"x3"
    assert base.parts_of(b"") == []
    assert [bytes(part) for part in base.parts_of(memoryview(data).cast("H"))] == [bytes(data)]


def test_a_range_is_checked_without_reading() -> None:
    assert base.check_range("a", 10, 3, 7) == 10
    assert base.check_range("a", 10, 3, None) == 10
    assert base.check_range("a", 10, 10, None) == 10
    with pytest.raises(errors.Damaged, match="a has 10 bytes"):
        base.check_range("a", 10, 3, 8)
    with pytest.raises(errors.Damaged):
        base.check_range("a", 10, 11, None)
    with pytest.raises(errors.UsageError):
        base.check_range("a", 10, -1, 3)


def test_what_helps_to_try_again_says_so() -> None:
    retryable = {cls.__name__ for cls in (base.Missing, base.Exists, base.BadName, base.Refused, base.NotGranted) if cls.retryable}
    assert retryable == set()
    assert base.GrantExpired.retryable
    assert (base.Missing.exit_code, base.BadName.exit_code, base.NotGranted.exit_code, base.GrantExpired.exit_code) == (
        10,
        2,
        14,
        14,
    )


def test_opening_a_folder_imports_nothing_heavy() -> None:
    """A command that looks at a local repository pays for no more than it uses."""
    code = (
        "import sys, os, json\nbefore = set(sys.modules)\n"
        "import torpor.storage.table, torpor.storage.local\n"
        "print(' '.join(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout.split()
    assert not {
        "dataclasses",
        "inspect",
        "msgspec",
        "numpy",
        "ctypes",
        "urllib",
        "asyncio",
        "requests",
        "hashlib",
        "pathlib",
    } & set(loaded)
    assert len(loaded) < 20, loaded
