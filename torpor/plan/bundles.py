"""Which small files share a bundle, and which class a file belongs to."""

from __future__ import annotations

from zlib import crc32

from torpor.format.version import CHUNK_MAX, CLASS_BUNDLE, CLASS_CRITICAL

FILL = CHUNK_MAX // 2  # bytes; a bundle may end from here on

# Small text that a person or a program needs first: code, configuration, notes, scripts. By ending, or by how the name begins.
_ENDINGS = frozenset(
    b"py pyi ipynb sh bash zsh toml yml yaml json jsonl cfg ini conf env txt md rst csv tsv c cc cpp h hpp cu cuh rs go js jsx ts tsx "
    b"htm html css sql lua r jl java scala kt swift pl rb php tex bib xml proto lock mk cmake patch diff service gitignore "
    b"dockerignore".split()
)
_NAMES = tuple(
    b"dockerfile makefile procfile license readme requirements bashrc .bashrc profile .profile authorized_keys config known_hosts".split()
)
# Folders whose text is somebody else's: packages, caches, object stores. Needed, but not first.
_HEAVY = frozenset((b"site-packages", b"dist-packages", b"node_modules", b".git", b".cache", b"pkgs", b".venv", b"venv"))


def is_heavy(name: bytes) -> bool:
    """Whether everything below a folder of this name is needed, but not first."""
    return name in _HEAVY


def klass_of(name: bytes, heavy: bool) -> int:
    """The pack class of a small file from its name, and whether it lies below a heavy folder."""
    if heavy:
        return CLASS_BUNDLE
    lower = name.lower()
    _, dot, ending = lower.rpartition(b".")
    return CLASS_CRITICAL if (dot and ending in _ENDINGS) or lower.startswith(_NAMES) else CLASS_BUNDLE


def ends_after(path: bytes, size: int, filled: int) -> bool:
    """Whether a bundle ends behind this file. `filled`: bytes in it, this file's included.

    The choice depends on the path's hash, weighed by size, not on a count: one new file shifts no later end.
    """
    if filled < FILL:
        return False
    return crc32(path) * FILL < max(size, 4096) << 32
