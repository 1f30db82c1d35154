"""The mixed workspace beside `cp -a`, tar with zstd and lz4, restic and borg: `./dev bench peers --only mixed`, and its options.

./dev bench local [--size MIB] [--rounds N] [--save NAME]
"""

from __future__ import annotations

import sys

from benchmarks import bench_peers

if __name__ == "__main__":
    sys.argv[1:1] = ["--only", "mixed"]
    bench_peers.main()
