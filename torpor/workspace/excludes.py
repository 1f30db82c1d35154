"""What does not belong to a snapshot: default excludes, `--exclude`, and `.torporignore` files (gitignore syntax)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any

from torpor.errors import UsageError

IGNORE_FILE = b".torporignore"
MARK = b".torpor-restore"  # tells that a root is being restored
# Made anew by the next run of what made them; shown in every manifest that used them.
DEFAULTS = (
    "__pycache__/",
    ".cache/pip/",
    ".cache/uv/",
    ".cache/pre-commit/",
    ".npm/_cacache/",
    ".conda/pkgs/",
    ".torpor-restore",
)
_DEFAULT_NAMES = frozenset((b"__pycache__", b".torpor-restore"))
_DEFAULT_TAILS = (
    (b".cache", b"pip"),
    (b".cache", b"uv"),
    (b".cache", b"pre-commit"),
    (b".npm", b"_cacache"),
    (b".conda", b"pkgs"),
)
_BROKEN = (ValueError, re.error, OverflowError, RecursionError)


def _compile(patterns: Sequence[str]) -> Any:
    # pathspec costs 60 ms to import: only where patterns are in use.
    from pathspec import GitIgnoreSpec

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of Python's expressions, which a pattern is made into
        return GitIgnoreSpec.from_lines(patterns)


def _parses(line: str) -> bool:
    try:
        _compile([line])
    except _BROKEN:
        return False
    return True


def of_snapshot(patterns: Sequence[str]) -> Excludes:
    """The rules that made a snapshot, from the list of them in its index."""
    return Excludes([pattern for pattern in patterns if pattern not in DEFAULTS], all(name in patterns for name in DEFAULTS))


class Excludes:
    """Decides name by name while a tree is walked. Paths are relative to the root."""

    def __init__(self, patterns: Sequence[str] = (), defaults: bool = True) -> None:
        self._defaults = defaults
        try:
            self._spec = _compile(patterns) if patterns else None
        except _BROKEN as error:
            raise UsageError(
                f"--exclude holds a pattern that does not parse: {error}.",
                safe="No snapshot was made.",
                remedy="Write it in the syntax of .gitignore.",
            ) from None
        self._files: list[tuple[bytes, Any]] = []

    @property
    def plain(self) -> bool:
        """No pattern is in use, only the default names."""
        return self._spec is None and not self._files

    def enter(self, folder: bytes, ignore_file: bytes) -> list[str]:
        """Patterns of a `.torporignore` found in `folder` (relative, without trailing slash; empty for the root).

        Lines that don't parse are returned, and exclude nothing: anybody may have written them.
        """
        lines = ignore_file.decode("utf-8", "surrogateescape").splitlines()
        bad: list[str] = []
        try:
            spec = _compile(lines)
        except _BROKEN:
            bad = [line for line in lines if not _parses(line)]
            spec = _compile([line for line in lines if line not in bad])
        self._files.append((folder, spec))
        return bad

    def leave(self, folder: bytes) -> None:
        while self._files and self._files[-1][0] == folder:
            self._files.pop()

    def keep(self, folder: bytes, names: list[bytes]) -> list[bytes]:
        """Those of a folder's names that are not left out; none of them is a directory's."""
        if self.plain and _DEFAULT_NAMES.isdisjoint(names):
            return names
        return [name for name in names if not self.drops(folder, name, False)]

    def drops(self, folder: bytes, name: bytes, directory: bool) -> bool:
        """Whether the entry `name` of `folder` is left out."""
        if name == IGNORE_FILE and not directory:
            return False  # the rules always belong to what they made: a restore with --replace goes by them
        if name == MARK and not folder:
            return True
        if self._defaults:
            if name in _DEFAULT_NAMES:
                return True
            if directory and any(name == tail and folder.rsplit(b"/", 1)[-1] == head for head, tail in _DEFAULT_TAILS):
                return True
        if self.plain:
            return False
        path = (folder + b"/" + name if folder else name) + (b"/" if directory else b"")
        if self._spec is not None and self._spec.match_file(path.decode("utf-8", "surrogateescape")):
            return True
        for base, spec in self._files:
            if base and folder != base and not folder.startswith(base + b"/"):
                continue
            within = path[len(base) + 1 :] if base else path
            if spec.match_file(within.decode("utf-8", "surrogateescape")):
                return True
        return False
