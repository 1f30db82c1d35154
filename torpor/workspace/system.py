"""What the operating system offers a job: cores, descriptors, file systems, flushing, memory behaviour."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource

from torpor.errors import HostFailed, NoSpace, TorporError, UsageError
from torpor.jobs import place_of


def cores() -> int:
    """Cores this process may use: affinity and the container's quota (cgroup v2, then v1)."""
    count = len(os.sched_getaffinity(0))
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        if quota != "max":
            count = min(count, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        try:
            with open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", encoding="ascii") as file:
                v1 = int(file.read())
            with open("/sys/fs/cgroup/cpu/cpu.cfs_period_us", encoding="ascii") as file:
                if v1 > 0:
                    count = min(count, max(1, v1 // int(file.read())))
        except (OSError, ValueError):
            return count
    return count


def available_memory() -> int:
    """Bytes that could be taken without swapping; 0 if the system does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            found = next((line for line in file if line.startswith("MemAvailable:")), "")
    except OSError:
        return 0
    return int(found.split()[1]) * 1024 if found else 0


def total_memory() -> int:
    """Bytes of memory that this machine, or the container (cgroup v2, then v1), has; 0 if the system does not tell."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path, encoding="ascii") as file:
                found.append(int(file.read()))
        except (OSError, ValueError):  # there is none, or it is "max"
            continue
    return max(0, min(found))


def name() -> str:
    """The operating system, its release, the processor's architecture and the C library. `platform.platform` starts a process to know."""
    found = os.uname()
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):  # another C library
        libc = ""
    return "-".join(filter(None, (found.sysname, found.release, found.machine, libc.replace(" ", ""))))


def raise_file_limit() -> None:
    """Let this process open as many files as the hard limit allows: deep trees hold one descriptor a level."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def keep_heap() -> None:
    """Ask glibc to keep freed blocks of up to 8 MiB instead of returning them: each return costs page faults for the next.

    Other C libraries have no `mallopt`; there it is left as it is.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(-3, 8 * 1024 * 1024 + 65_536)  # M_MMAP_THRESHOLD
    mallopt(-1, 64 * 1024 * 1024)  # M_TRIM_THRESHOLD
    mallopt(-8, 2)  # M_ARENA_MAX: threads share arenas, so that memory stays flat


def no_math_threads() -> None:
    """Keep numpy's linear algebra, which nothing here uses, from starting a thread a core that waits by spinning."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def syncfs(path: bytes) -> None:
    """Write everything of the file system at `path` to its device; of all file systems if it can't be opened."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        os.sync()
        return
    try:
        try:
            call = ctypes.CDLL(None, use_errno=True).syncfs
        except (AttributeError, OSError):
            os.sync()
            return
        if call(fd) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), os.fsdecode(path))
    finally:
        os.close(fd)


_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def refused(error: OSError, what: str, safe: str) -> TorporError:
    """What the system refused, as torpor's own error. `what` ("The restore") was stopped by it; `safe`: what is safe."""
    text = f"{what} was stopped by the system{place_of(error)}: {error.strerror or error}."
    if error.errno in _FULL:
        return NoSpace(text, safe=safe, remedy="Make room and run the command again: it goes on from there.")
    if error.errno in _FORBIDDEN:
        return UsageError(text, safe=safe, remedy="Give this user the right to do that, or run the command as another.")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return HostFailed(
            text, safe=safe, remedy="Let it open more files (`ulimit -n`), then run the command again: it goes on from there."
        )
    return HostFailed(text, safe=safe, remedy="Look at the disk, then run the command again: it goes on from there.")


def mount_points(mountinfo: str) -> list[str]:
    """Where file systems are mounted, of the text of a /proc/self/mountinfo, in which blanks and such are octal."""
    points = [fields[4] for fields in map(str.split, mountinfo.splitlines()) if len(fields) > 4]
    return [re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), point) for point in points]


_UNSTABLE = ("overlay", "fuse", "nfs", "9p", "virtiofs", "cifs", "smb")


def stable_inodes(path: bytes) -> bool:
    """Whether inode and device numbers of the file system at `path` stay the same over restarts and copies-up.

    Told by its type in /proc/self/mountinfo; overlayfs gives a file a new inode when it is first changed, network and FUSE
    file systems may renumber. Unknown means no.
    """
    kind = file_system(os.stat(path).st_dev)
    return bool(kind) and not kind.startswith(_UNSTABLE)


def file_system(device: int) -> str:
    """The type of the file system that is mounted as this device, by /proc/self/mountinfo; empty if it does not tell."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                head, _, tail = line.partition(" - ")
                if head.split()[2] == wanted:
                    return tail.split()[0]
    except (OSError, IndexError):
        return ""
    return ""


# Made up by the kernel: nobody's files are in them, and those that look like some have no size that holds.
MADE_UP = frozenset((
    "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "cpuset", "debugfs", "devpts", "devtmpfs", "efivarfs", "fusectl",
    "mqueue", "nsfs", "proc", "pstore", "rpc_pipefs", "securityfs", "selinuxfs", "sysfs", "tracefs",
))  # fmt: skip
_OF_EACH_START = (b"/dev", b"/run")  # a tmpfs there is made anew whenever the machine starts


def liar(device: int) -> str:
    """The type of a file system whose files may have content though their size is 0; empty for all others."""
    kind = file_system(device)
    return kind if kind in MADE_UP or kind.startswith(("fuse", "9p")) else ""


def is_made_up(path: bytes, device: int) -> bool:
    """Whether a file system that is mounted at `path` holds nobody's files."""
    kind = file_system(device)
    return kind in MADE_UP or (kind == "tmpfs" and os.path.abspath(path) in _OF_EACH_START)
