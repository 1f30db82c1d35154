"""Which keys count for a target where it names none itself: the environment's, this home's, the user's."""

from __future__ import annotations

from pathlib import Path

import msgspec

from torpor.access import Access
from torpor.ssh import keys, trust
from torpor.ssh.base import Target


class Defaults(msgspec.Struct, frozen=True):
    """`identity`: the one private key to log in with; empty: `own` (if it is there), then what the user's agent and ~/.ssh have."""

    identity: str
    own: str
    known_hosts: list[Path]


def defaults(target: Target, folder: Path, accounts: Access) -> Defaults:
    """`folder`: where this home keeps machines and keys. `accounts` may name files to use instead.

    A machine with a pinned key was made by torpor, and so has this home's key: the user's agent is not asked to show it others.
    """
    login = folder / keys.FILE
    own = str(login) if login.exists() else ""
    identity = target.identity or accounts.get("TORPOR_SSH_KEY") or (own if target.host_key else "")
    return Defaults(identity, own, known_files(folder, accounts))


def known_files(folder: Path, accounts: Access) -> list[Path]:
    """The files of known hosts that count: `TORPOR_KNOWN_HOSTS` alone, or this home's own and the user's."""
    named = accounts.get("TORPOR_KNOWN_HOSTS")
    return [Path(named).expanduser()] if named else [folder / trust.FILE, Path.home() / ".ssh" / "known_hosts"]
