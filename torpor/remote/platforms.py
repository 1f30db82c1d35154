"""What compiled Python packages are made for: which of them run on a host, told from tags of wheels and from the heads of libraries."""

from __future__ import annotations

import platform as system
import re
import sys

import msgspec

from torpor.remote.hostfacts import Facts, Python

_TAG = re.compile(r"(?P<python>[\w.]+)-[\w.]+-(?:any|manylinux_2_(?P<minor>\d+)_(?P<one>\w+)|manylinux(?P<year>1|2010|2014)_(?P<two>\w+))")
_YEARS = {"1": 5, "2010": 12, "2014": 17}
_ELF = {"x86_64": 0x3E, "aarch64": 0xB7}  # e_machine, elf.h


class Platform(msgspec.Struct, frozen=True):
    """Where a bundle runs: CPython's minor version, the processor, the version of glibc."""

    python: tuple[int, int]
    architecture: str
    glibc: tuple[int, int]

    @property
    def tags(self) -> list[str]:
        """Platform tags of wheels that run there, best first."""
        return [f"manylinux_2_{minor}_{self.architecture}" for minor in range(self.glibc[1], 16, -1)] + [
            f"manylinux2014_{self.architecture}"
        ]


def of(facts: Facts, python: Python) -> Platform:
    return Platform(python.minor, facts.architecture, python.glibc)


def here() -> Platform | None:
    """This process's own; None if it is no ordinary CPython on GNU/Linux."""
    kind, version = system.libc_ver()
    found = re.match(r"(\d+)\.(\d+)", version)
    if sys.implementation.name != "cpython" or sys.abiflags or kind != "glibc" or not found or sys.maxsize <= 2**32:
        return None
    return Platform(sys.version_info[:2], system.machine(), (int(found[1]), int(found[2])))


def least_glibc(tags: list[str], architecture: str) -> tuple[int, int] | None:
    """The oldest glibc that a wheel with these tags (`cp311-cp311-manylinux_2_17_x86_64`) runs on; None: it runs on the machine that
    made it, or on another processor."""
    parsed = filter(None, map(_TAG.fullmatch, tags))
    found = [
        (2, int(tag["minor"] or _YEARS.get(tag["year"] or "", 0)))
        for tag in parsed
        if (tag["one"] or tag["two"] or architecture) == architecture
    ]
    return min(found, default=None)


def runs(library: bytes, where: Platform) -> bool:
    """Whether a shared library of ours loads there: the processor it was compiled for, and the versions of glibc it asks for."""
    if library[:5] != b"\x7fELF\x02" or int.from_bytes(library[18:20], "little") != _ELF.get(where.architecture):
        return False
    return max((int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", library)), default=0) <= where.glibc[1]
