"""Compress or decompress every file of a tree with ZipNN: run by an interpreter that has it, which need not be torpor's.

python zipnn_files.py compress|decompress SOURCE TARGET DTYPE THREADS    prints {"seconds": …}
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from importlib import import_module
from pathlib import Path


def main() -> None:
    what, source, target, dtype, threads = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], int(sys.argv[5])
    zipnn = import_module("zipnn")
    began = time.perf_counter()
    for folder, _, names in os.walk(source):
        below = target / Path(folder).relative_to(source)
        below.mkdir(parents=True, exist_ok=True)
        for name in names:
            path = Path(folder, name)
            coder = zipnn.ZipNN(input_format="byte", bytearray_dtype=dtype, threads=threads)
            data = bytearray(path.read_bytes())
            (below / name).write_bytes(coder.compress(data) if what == "compress" else coder.decompress(data))
            shutil.copystat(path, below / name)
        shutil.copystat(folder, below)
    print(json.dumps({"seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main()
