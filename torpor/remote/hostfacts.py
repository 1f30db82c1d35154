"""What a bare host is and has, asked in one round trip: Python, libc, room, rights, an NVIDIA driver, engines that are there already.

The question is one script for any POSIX sh; the answer is lines that begin with `torpor:`, so that what a login prints beside them does
no harm. All of it is a stranger's word: bounded, parsed, and used for nothing but work on that same host.
"""

from __future__ import annotations

import re
import shlex
from importlib.resources import files

import msgspec

from torpor.errors import HostFailed, MachineError, NoSpace, UsageError

OLDEST, NEWEST = (3, 10), (3, 14)  # minor versions that torpor runs on, and that its dependencies have wheels for
ARCHITECTURES = ("x86_64", "aarch64")
ANSWER_MAX = 256 * 1024  # bytes
NEEDED = ("_ctypes", "_hashlib", "_ssl", "concurrent", "fcntl", "http", "json", "subprocess", "tarfile", "zlib")
_FIELDS = 7


class NoPython(MachineError):
    """The host has no Python that can run the engine."""


class Unsuitable(MachineError):
    """The host is of a kind that the engine does not run on, or lets nothing be written."""


class Python(msgspec.Struct, frozen=True, kw_only=True):
    """One interpreter of a host. `libc`: `glibc 2.36`, or empty where it is no GNU. `lacking`: modules it was built or packed without.

    `flags`: of its ABI; empty for the usual one. `wide`: whether it is a 64-bit program.
    """

    path: str
    version: tuple[int, int, int]
    implementation: str = "cpython"
    flags: str = ""
    wide: bool = True
    libc: str = ""
    lacking: tuple[str, ...] = ()

    @property
    def minor(self) -> tuple[int, int]:
        return self.version[:2]

    @property
    def glibc(self) -> tuple[int, int]:
        """(0, 0) where it is no GNU C library."""
        found = re.fullmatch(r"glibc (\d{1,3})\.(\d{1,3})(\..*)?", self.libc)
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def unfit(self) -> str:
        """Why it can't run the engine; empty if it can."""
        if not OLDEST <= self.minor <= NEWEST:
            return "too old" if self.minor < OLDEST else "newer than torpor knows"
        if self.implementation != "cpython" or self.flags:
            return f"{self.implementation}{' ' * bool(self.flags)}{self.flags}, and no ordinary CPython"
        if not self.wide:
            return "a 32-bit program"
        return f"without {', '.join(self.lacking)}" if self.lacking else ""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """`home`, `base`: absolute folders of the host, `base` for engines. `free`: bytes. `driver`: NVIDIA's, such as `570.86.15`, or empty.

    `boot`: changes when the host's kernel starts anew. `engines`: what is ready in `base`, with the boot it was last checked in.
    `rental`: what the state folder has as this rental's identity, if one was asked about. `refused`: why nothing can be written.
    """

    home: str
    base: str
    root: bool
    architecture: str
    free: int
    boot: str
    driver: str = ""
    rental: str = ""
    refused: str = ""
    pythons: tuple[Python, ...] = ()
    engines: dict[str, str] = msgspec.field(default_factory=dict)

    def python(self, preferred: tuple[int, int]) -> Python:
        """The interpreter to use: of the preferred minor version if there is one, else the newest. Raises `NoPython`, `Unsuitable`."""
        if self.refused:
            raise Unsuitable(
                f"Nothing can be written below the home folder of the host's user ({self.refused}).",
                safe="Nothing was changed on the host.",
                remedy="Log in as a user with a home folder of its own that can be written, or mount it writable.",
            )
        if self.architecture not in ARCHITECTURES:
            raise Unsuitable(
                f"The host's processor is a {self.architecture or 'kind that it does not tell'}; the engine runs on "
                f"{' and '.join(ARCHITECTURES)}.",
                safe="Nothing was changed on the host.",
                remedy="Choose another machine.",
            )
        fit = [python for python in self.pythons if not python.unfit()]
        if not fit:
            seen = "; ".join(f"{python.path} is {'.'.join(map(str, python.version))}, {python.unfit()}" for python in self.pythons)
            raise NoPython(
                f"The host has no Python that can run the engine ({seen or 'none was found'}).",
                safe="Nothing was changed on the host.",
                remedy="It needs Python 3.10 to 3.14 with its standard library: on Debian 12, Ubuntu 22.04 and later `apt-get install "
                "python3`; or take an image that has it.",
            )
        gnu = [python for python in fit if python.glibc >= (2, 17)]
        if not gnu:
            raise Unsuitable(
                f"The host's C library is {fit[0].libc or 'not the GNU one (Alpine has musl)'}; the engine needs glibc 2.17 or later.",
                safe="Nothing was changed on the host.",
                remedy="Take an image of Debian or Ubuntu.",
            )
        return max(gnu, key=lambda python: (python.minor == preferred, python.version))

    def need_room(self, size: int) -> None:
        """Raises `NoSpace` unless there are so many bytes."""
        if self.free < size:
            raise NoSpace(
                f"The host has {self.free / 1e6:,.0f} MB free below {self.home}; the engine needs {size / 1e6:,.0f} MB.",
                safe="Nothing was changed on the host.",
                remedy="Free space there, or take a machine with a larger disk.",
            )


def question(state: str = "", rental: str = "") -> str:
    """The script. With a rental, `rental` is written into the `state` folder (below the home, unless absolute) if it is not there."""
    if rental and not re.fullmatch(r"[0-9a-f]{32}", rental):
        raise UsageError("A rental is 32 hex digits.")
    script = (files("torpor.remote") / "hostfacts.sh").read_text(encoding="utf-8")
    probe = (files("torpor.remote") / "hostprobe.py").read_text(encoding="utf-8")
    values = {"probe": probe, "needed": " ".join(NEEDED), "state": state, "rental": rental}
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items()) + script


def parse(answer: bytes) -> Facts:
    """What the script printed. Raises `HostFailed` if that is no answer."""
    told: dict[str, str] = {}
    pythons: dict[str, Python] = {}
    engines: dict[str, str] = {}
    for line in answer[:ANSWER_MAX].decode(errors="replace").splitlines():
        key, *fields = line.partition("torpor:")[2].split("\t")
        if key == "python" and len(fields) == _FIELDS:
            if (python := _python(fields)) is not None:
                pythons.setdefault(python.path, python)
        elif key == "engine" and len(fields) == 2 and re.fullmatch(r"[0-9a-f]{32}", fields[0]):
            engines[fields[0]] = fields[1]
        elif key and fields:
            told.setdefault(key, fields[0])
    if told.get("end") != "here" or not told.get("base", "").startswith("/"):
        raise HostFailed(
            "The host did not answer as a POSIX shell does when it was asked what it is.",
            safe="Nothing was changed on the host.",
            remedy="Look at what `sh -c 'echo it works'` over SSH prints there, and whether the login runs another program instead.",
        )
    driver = re.search(r"\b(\d{3,4}\.\d{1,4}(\.\d{1,4})?)\b", told.get("driver", ""))
    free = told.get("free", "")
    return Facts(
        home=told.get("home", ""), base=told["base"], root=told.get("uid") == "0", architecture=told.get("architecture", ""),
        free=int(free) if re.fullmatch(r"\d{1,18}", free) else 0, boot=told.get("boot", ""), driver=driver[1] if driver else "",
        rental=told.get("rental", ""), refused=told.get("refused", ""), pythons=tuple(pythons.values()), engines=engines,
    )  # fmt: skip


def _python(fields: list[str]) -> Python | None:
    path, version, implementation, flags, wide, libc, lacking = fields
    found = re.fullmatch(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})", version)
    if not found or not path.startswith("/"):
        return None
    return Python(
        path=path, version=(int(found[1]), int(found[2]), int(found[3])), implementation=implementation, flags=flags, wide=wide == "1",
        libc=libc, lacking=tuple(lacking.split()),
    )  # fmt: skip
