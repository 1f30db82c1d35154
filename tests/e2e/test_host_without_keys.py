"""A host's engine with a real S3 server: what it is given, and all that it has in memory, holds no key of the account."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.rclone import Rclone
from tests.engine.lab import Lab, same, write
from torpor.access import Access
from torpor.events import Event
from torpor.remote.host import Subprocess
from torpor.storage.table import open_store
from torpor.testing.samples import noise

SECRET = b"rclone-secret"
MEMORY = 384 << 20  # as little as there may be, since all of it is searched


class Bucket(Lab):
    def open(self, home: str, *, create: bool = False, **environment: str) -> Any:
        keys = {"AWS_ACCESS_KEY_ID": "rclone-key", "AWS_SECRET_ACCESS_KEY": SECRET.decode()}
        return super().open(home, create=create, **keys, **environment)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Rclone]:
    (tmp_path / "server" / "bucket").mkdir(parents=True)
    with Rclone(tmp_path / "server") as found:
        yield found


class Look:
    """Searches the engine's process for a text, at the beginning of each stage."""

    def __init__(self, host: Subprocess, text: bytes) -> None:
        self.host, self.text = host, text
        self.looked = 0
        self.searched = 0
        self.found: list[str] = []

    def __call__(self, event: Event) -> None:
        assert self.text.decode() not in repr(event)
        process = self.host.process
        if event.kind != "stage" or event.state != "started" or process is None or process.poll() is not None:
            return
        self.looked += 1
        place = Path(f"/proc/{process.pid}")
        for name in ("environ", "cmdline", "maps"):
            if self.text in (place / name).read_bytes():
                self.found.append(name)
        for link in (place / "fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                if self.text in os.fsencode(os.readlink(link)):
                    self.found.append(str(link))
        if event.stage in ("upload", "download", "finish"):
            self._memory(place)

    def _memory(self, place: Path) -> None:
        """All that can be written to and is really there."""
        spans = re.findall(
            r"^([0-9a-f]+)-([0-9a-f]+) rw.*\n(?:[^-\n]*\n)*?Rss: +([1-9][0-9]*) kB", (place / "smaps").read_text(), re.MULTILINE
        )
        with suppress(ProcessLookupError), open(place / "mem", "rb", buffering=0) as memory:  # it ends after what it said
            for span in spans:
                start, end = int(span[0], 16), int(span[1], 16)
                while start < end:
                    try:
                        data = os.pread(memory.fileno(), min(end - start, 1 << 22), start)
                    except OSError:  # given back meanwhile
                        break
                    if not data:  # the process has ended
                        return
                    self.searched += len(data)
                    if self.text in data:
                        self.found.append(f"memory at {start:x}")
                    start += len(data)


def test_a_host_has_no_key(server: Rclone, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert server.secret.encode() == SECRET
    keys = Access({"AWS_ACCESS_KEY_ID": server.key, "AWS_SECRET_ACCESS_KEY": server.secret})
    host = Subprocess()
    lab = Bucket(tmp_path / "lab", store=open_store(f"s3://bucket?endpoint={server.url}", keys), host=host)
    source = tmp_path / "source"
    for number in range(3):
        write(source / f"data-{number}", noise(15 << 20, number))
    write(source / "code.py", "print()\n")
    caplog.set_level(0)
    look = Look(host, SECRET)
    lab.take(source, listen=look, memory=MEMORY)
    lab.restore(tmp_path / "copy", listen=look, memory=MEMORY)
    same(source, tmp_path / "copy")
    assert look.looked > 3
    assert look.searched > 1 << 24
    assert look.found == []
    assert SECRET.decode() not in caplog.text
    for folder in (tmp_path / "lab", tmp_path / "server"):
        assert not [path for path in folder.rglob("*") if path.is_file() and SECRET in path.read_bytes()]


def test_the_search_finds_what_is_there(server: Rclone, tmp_path: Path) -> None:
    """The same look at a process that has the word: one that cannot find it shows nothing."""
    keys = Access({"AWS_ACCESS_KEY_ID": server.key, "AWS_SECRET_ACCESS_KEY": server.secret})
    host = Subprocess()
    lab = Bucket(tmp_path / "lab", store=open_store(f"s3://bucket?endpoint={server.url}", keys), host=host)
    source = tmp_path / "a-word-that-is-there"
    write(source / "code.py", "print()\n")
    look = Look(host, b"a-word-that-is-there")
    lab.take(source, listen=look, memory=MEMORY)
    assert look.found
