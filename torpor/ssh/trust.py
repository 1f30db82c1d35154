"""Which host key belongs to which address: files in OpenSSH's form, and the one that `torpor trust` writes."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from torpor.errors import MachineError, UsageError
from torpor.ssh import keys

FILE = "known_hosts"


def name_of(host: str, port: int) -> str:
    """How files of known hosts write an address."""
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


def known(files: Sequence[Path], host: str, port: int) -> list[str]:
    """The keys that the first of these files with any has for an address, as `ssh-ed25519 AAAA…`; none of those that one revokes.

    Names may be plain, hashed or patterns; of certificate authorities nothing is believed. Files that are not there are empty.
    Raises `MachineError` for one that can't be read.
    """
    lines = [list(_lines(file)) for file in files]
    revoked = {key for found in lines for marker, _, key in found if marker == "@revoked"}
    for found in lines:
        keys_here = [key for marker, names, key in found if not marker and _matches(names, name_of(host, port))]
        if keys_here:
            return [key for key in dict.fromkeys(keys_here) if key not in revoked]
    return []


def pin(folder: Path, host: str, port: int, key: str) -> None:
    """Believe from now on that `key` is this address's, and no other. Raises `UsageError` for what is no key."""
    try:
        keys.fingerprint(key)
    except ValueError:
        raise UsageError(f"{key[:40]!r} is no public host key.", remedy="It is written as: ssh-ed25519 AAAA…") from None
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path, name = folder / FILE, name_of(host, port)
    with open(folder / f".{FILE}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if line.split(" ", 1)[0] != name]
        temporary = folder / f".{FILE}.{secrets.token_hex(4)}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in (*kept, f"{name} {' '.join(key.split()[:2])}")))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


def _lines(file: Path) -> Iterator[tuple[str, str, str]]:
    """(marker, names, key) of each line that has these."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise MachineError(
            f"The known hosts can't be read: {error}.",
            safe="Nothing was sent.",
            remedy="Mend the file, or name another: TORPOR_KNOWN_HOSTS.",
        ) from error
    for line in text.splitlines():
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        marker = fields.pop(0) if fields[0].startswith("@") else ""
        if len(fields) >= 3:
            yield marker, fields[0], f"{fields[1]} {fields[2]}"


def _matches(names: str, wanted: str) -> bool:
    if names.startswith("|1|"):
        try:
            _, _, salt, digest = names.split("|")
            expected = hmac.new(base64.b64decode(salt), wanted.encode(), hashlib.sha1).digest()
            return hmac.compare_digest(expected, base64.b64decode(digest))
        except ValueError:
            return False
    met = False
    for pattern in names.lower().split(","):
        if _glob(pattern.removeprefix("!"), wanted):
            if pattern.startswith("!"):
                return False
            met = True
    return met


def _glob(pattern: str, wanted: str) -> bool:
    """`*` and `?` alone: brackets are of addresses with a port."""
    return fnmatchcase(wanted, pattern.replace("[", "[[]"))
