"""Run by a host's Python, given as text, with nothing installed there: takes a bundle from standard input and makes an engine of it.

    argument: {"base": folder, "name": 32 hex digits, "digest": sha256 of the bundle, "size": its bytes, "start": arguments that try it}
    ← have N          it has the first N bytes; the rest is read from standard input
    ← ready           it is there, and was before
    ← fresh           it is there now
    ← damaged         what arrived is not what was sent; it is deleted
    ← refused E TEXT  the system refused a step, by its errno
    ← broken TEXT     it was unpacked and does not start; it is deleted

Each line begins with `torpor: `, unlike what a login may print before.

Below `base`: `<name>/` an engine, whole from the moment it has that name; `<name>.<digest>.upload-<n>` what has arrived, locked by its
writer; `<name>.partial-…` what is being unpacked; `.trash-…` what is being deleted. An engine that runs has its `in-use` locked.
An end of the stream leaves the upload for the next attempt. Two that bootstrap at once write two uploads, the second beginning with what
the first has; who unpacks first wins.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from typing import Any

PIECE = 256 * 1024  # bytes
START = 120.0  # seconds for the engine's first start, on a slow disk
DAY = 86400.0  # seconds; what nobody used for so long is deleted
LISTING, READY, USED = "files", "ready", "in-use"


def say(*words: object) -> None:
    sys.stdout.write(" ".join(("torpor:", *map(str, words))) + "\n")
    sys.stdout.flush()


def boot() -> str:
    """Another one after the kernel has started anew: until then, what was written is there."""
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
    return ""


def sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def lock(path: str) -> int | None:
    """The file of that name, locked and open; None if another process has it. It may have been deleted while it was waited for."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_nlink:
            return fd
    os.close(fd)
    return None


def delete(base: str, name: str) -> None:
    """Out of the way in one step, and then away."""
    trash = os.path.join(base, f".trash-{secrets.token_hex(8)}")
    with suppress(FileNotFoundError):
        os.rename(os.path.join(base, name), trash)
        shutil.rmtree(trash, ignore_errors=True)


def holds(folder: str) -> bool:
    """Whether every file of an engine is what it was. After a crash of the host's kernel its name may be there without its bytes."""
    try:
        with open(os.path.join(folder, LISTING), encoding="utf-8") as file:
            listed: dict[str, str] = json.load(file)
        return bool(listed) and all(sha256(os.path.join(folder, path)) == digest for path, digest in listed.items())
    except (OSError, ValueError, AttributeError):
        return False


def mark(folder: str) -> None:
    temporary = os.path.join(folder, f"{READY}.{os.getpid()}")
    with open(temporary, "w", encoding="ascii") as file:
        file.write(boot())
    os.rename(temporary, os.path.join(folder, READY))


def is_ready(base: str, name: str) -> bool:
    folder = os.path.join(base, name)
    with suppress(OSError), open(os.path.join(folder, READY), encoding="ascii") as file:
        if file.read() == boot():
            return True
    if not os.path.isdir(folder):
        return False
    if holds(folder):
        mark(folder)
        return True
    delete(base, name)
    return False


def take_over(fd: int, other: str) -> None:
    """Begin with what has arrived for another receiver: the end of its connection may reach it late, or never."""
    with suppress(FileNotFoundError), open(other, "rb") as file:
        if os.fstat(fd).st_size < os.fstat(file.fileno()).st_size:
            os.ftruncate(fd, 0)
            with open(os.dup(fd), "wb") as mine:
                shutil.copyfileobj(file, mine, PIECE)


def fill(fd: int, size: int) -> bool:
    """Read what is missing; False if the stream ended before. A file that is too long is not one of these."""
    have = os.fstat(fd).st_size
    if have > size:
        os.ftruncate(fd, 0)
        have = 0
    say("have", have)
    os.lseek(fd, have, os.SEEK_SET)
    while have < size:
        piece = os.read(0, min(PIECE, size - have))
        if not piece:
            return False
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(fd, rest) :]
        have += len(piece)
    return True


def unpack(archive: str, folder: str) -> None:
    """Plain files and folders alone; the digest has told that they are what the control side packed."""
    listed = {}
    with tarfile.open(archive) as packed:
        for member in packed:
            data = packed.extractfile(member) if member.isfile() else None
            if data is None or member.name.startswith("/") or ".." in member.name.split("/"):
                raise OSError(0, f"the bundle has an entry {member.name!r} that no bundle has")
            path = os.path.join(folder, member.name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            content = data.read()
            with open(path, "xb") as file:
                file.write(content)
            listed[member.name] = hashlib.sha256(content).hexdigest()
    with open(os.path.join(folder, LISTING), "w", encoding="utf-8") as file:
        json.dump(listed, file)
    os.close(os.open(os.path.join(folder, USED), os.O_CREAT | os.O_CLOEXEC | os.O_WRONLY, 0o600))


def install(base: str, name: str, archive: str, start: list[str]) -> str:
    """Unpack, try it, give it its name; the last word."""
    partial = f"{name}.partial-{os.getpid()}-{secrets.token_hex(4)}"
    folder = os.path.join(base, partial)
    try:
        os.mkdir(folder, 0o700)
        unpack(archive, folder)
        command = [sys.executable, "-I", "-S", "-X", "utf8", folder, *start]
        try:
            tried = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=START)
        except subprocess.TimeoutExpired:
            return f"broken it did not start within {START:g} s"
        if tried.returncode:
            return " ".join(("broken", *tried.stderr.decode(errors="replace").strip().splitlines()[-1:]))
        mark(folder)
        try:
            os.rename(folder, os.path.join(base, name))
        except OSError:
            if not is_ready(base, name):  # unless another was quicker
                raise
        return "fresh"
    finally:
        delete(base, partial)


def clean(base: str, name: str) -> None:
    """Delete what nobody has used for a day: engines, uploads, and what a crash left."""
    before = time.time() - DAY
    for entry in os.listdir(base):
        path = os.path.join(base, entry)
        with suppress(OSError):
            used = os.path.join(path, USED) if os.path.isdir(path) and "." not in entry else path
            if entry == name or os.lstat(used if os.path.exists(used) else path).st_mtime > before:
                continue
            if used == path and os.path.isdir(path):
                delete(base, entry)
            elif (fd := lock(used)) is not None:
                os.unlink(path) if used == path else delete(base, entry)
                os.close(fd)


def receive(base: str, name: str, digest: str, size: int, start: list[str]) -> str:
    """The last word; empty if the stream ended too early."""
    os.makedirs(base, mode=0o700, exist_ok=True)
    if is_ready(base, name):
        return "ready"
    number, uploads = 0, os.path.join(base, f"{name}.{digest[:16]}.upload-")
    while (fd := lock(upload := f"{uploads}{number}")) is None:
        number += 1
    for other in range(number):
        take_over(fd, f"{uploads}{other}")
    if not fill(fd, size):
        return ""
    if is_ready(base, name):
        word = "ready"
    elif sha256(upload) != digest:
        word = "damaged"
    else:
        word = install(base, name, upload, start)
    os.unlink(upload)
    clean(base, name)
    return word


def main() -> None:
    os.umask(0o077)
    plan: dict[str, Any] = json.loads(sys.argv[1])
    try:
        if word := receive(plan["base"], plan["name"], plan["digest"], plan["size"], plan["start"]):
            say(word)
    except (OSError, EOFError, tarfile.TarError) as error:
        say("refused", getattr(error, "errno", 0) or 0, str(error))


if __name__ == "__main__":
    main()
