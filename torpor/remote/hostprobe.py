"""Run by each Python of a host, given as text: one line about itself and one about the disk, as torpor.remote.hostfacts reads them.

Arguments: the folder for engines, and the modules that are needed, with spaces between. Runs on any Python from 3.6 on.
"""

import os
import sys
from importlib.util import find_spec


def main(base: str, needed: str) -> None:
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):
        libc = ""
    try:
        disk = os.statvfs(base)
        free = disk.f_bavail * disk.f_frsize
    except OSError:
        free = 0
    about = (
        os.path.realpath(sys.executable),
        ".".join(map(str, sys.version_info[:3])),
        sys.implementation.name,
        sys.abiflags.replace("m", ""),  # before 3.8 the usual ABI was called m
        int(sys.maxsize > 2**32),
        libc,
        " ".join(name for name in needed.split() if find_spec(name) is None),
    )
    sys.stdout.write("\t".join(map(str, ("torpor:python", *about))) + f"\ntorpor:free\t{free}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
