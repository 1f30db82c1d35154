"""`rclone serve s3` over a folder: a real S3 server that is not ours. The folder's folders are its buckets."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_READY = re.compile(rb"(http://127\.0\.0\.1:\d+)")


class Rclone:
    """Serves `folder` at `url` from `with` on, to those who hold `key` and `secret`. `region` may be any."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key, self.secret = "rclone-key", "rclone-secret"
        self.url = ""

    def __enter__(self) -> Self:
        program = Path(sys.executable).with_name("rclone")
        arguments = ["serve", "s3", str(self.folder), "--addr", "127.0.0.1:0", "--auth-key", f"{self.key},{self.secret}"]
        quiet = ["--config", "", "--log-level", "NOTICE"]
        self._process = subprocess.Popen([program, *arguments, *quiet], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert self._process.stderr is not None
        log = []
        for line in self._process.stderr:
            log.append(line)
            if found := _READY.search(line):
                self.url = found[1].decode()
                break
        else:
            self.__exit__(None, None, None)
            raise RuntimeError(b"".join(log).decode())
        self._drain = threading.Thread(target=self._process.stderr.read)  # or it would wait for us once the pipe is full
        self._drain.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        if self.url:
            self._drain.join()
        assert self._process.stderr is not None
        self._process.stderr.close()
