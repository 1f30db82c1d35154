"""Secrets are typed in, or read from a file or standard input; they are never arguments, which other processes can see."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from torpor.errors import UsageError

if TYPE_CHECKING:
    from torpor.settings import Secret, Settings


def ask(prompt: str, *, hidden: bool = False) -> str:
    """A line from the terminal, or from standard input if that is none."""
    if not sys.stdin.isatty():
        text = sys.stdin.readline()
    elif hidden:
        from getpass import getpass

        text = getpass(prompt)
    else:
        print(prompt, end="", file=sys.stderr, flush=True)
        text = sys.stdin.readline()
    if not text.strip():
        raise UsageError("Nothing was typed in.", safe="Nothing was changed.")
    return text.strip()


def read(file: str) -> str:
    """A small file of text. Raises `UsageError`."""
    try:
        with open(file, encoding="utf-8") as stream:
            return stream.read(1 << 20).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} can't be read: {getattr(error, 'strerror', None) or 'it is not text'}.") from None


def passphrase(settings: Settings, file: str | None) -> Secret:
    """The passphrase in a file, or the one of the environment. Raises `UsageError` for an empty file: keys would lie in the clear."""
    from torpor.settings import Secret

    if not file:
        return settings.passphrase
    found = read(file)
    if not found:
        raise UsageError(f"{file} is empty, and no passphrase.", safe="Nothing was written.", remedy="Write the passphrase into it.")
    return Secret(found)
