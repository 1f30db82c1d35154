"""Messages between the control side and a host's engine: the only thing doors, flows and hosts exchange.

A job is one JSON object, its result another; paths and keys are bytes (base64 in JSON). Keys live in `HostKeys` and
`RestoreKeys` alone, which never print.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from torpor.errors import Malformed
from torpor.format.manifest import CodecUse, IndexRef
from torpor.format.untrusted import BROKEN

Codec = Literal["auto", "raw", "zstd", "lz4"]
Mode = Literal["new", "merge", "replace"]
Owners = Literal["numbers", "names", "none"]
UseGpu = Literal["auto", "off"]

PATIENCE = 300.0
PACKS_ASKED = 128  # packs that a job is given requests for at a time: 4 GiB of them, in some 100 kB of JSON


class Request(msgspec.Struct, frozen=True):
    """One storage request. `url` may be `file:///…`; headers may hold a signature, so it is never logged.

    `digest`: "md5" if the store's answer tells the MD5 of what it took (`ETag`, or Google's `x-goog-hash`), which the host compares. No
    `Content-MD5` goes with a request: S3 and Google refuse headers that were not signed, and nobody knows the MD5 when it is signed.
    """

    method: str
    url: str
    headers: dict[str, str] = {}
    digest: Literal["", "md5"] = ""

    def __repr__(self) -> str:
        return f"Request({self.method} …)"


class Grant(msgspec.Struct, frozen=True):
    """What a host may do for one job. `put` and `get` map object names to requests; a template covers all names of its kind.

    In a template, `{name}` stands for the object's name below `packs/`. `expires` is seconds since 1970; 0 never. `fallback` is the
    grant for a copy of the same objects, read where this one's store fails; it can have one itself.
    """

    put: dict[str, Request] = {}
    get: dict[str, Request] = {}
    put_template: Request | None = None
    get_template: Request | None = None
    expires: float = 0.0
    fallback: Grant | None = None


class Ask(msgspec.Struct, frozen=True):
    """What a running job asks the control side for: requests for these objects (names below `packs/`), because its grant lacks them
    or is about to run out. It gets a `Grant` that covers what of it is its to have. `needed`: it can't go on without."""

    put: list[str] = []
    get: list[str] = []
    needed: bool = False


Granter = Callable[[Ask], Grant]


class HostKeys(msgspec.Struct, frozen=True):
    """For a snapshot: the lineage's id key, the repository's public box key (None: no encryption)."""

    id_key: bytes
    box: bytes | None

    def __repr__(self) -> str:
        return "HostKeys(hidden)"


class RestoreKeys(msgspec.Struct, frozen=True):
    """For a restore: the id key, the index's key, and one key a pack, by name."""

    id_key: bytes
    index_key: bytes
    packs: dict[str, bytes]

    def __repr__(self) -> str:
        return "RestoreKeys(hidden)"


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Which files belong to a workspace. `leave`: folders that never do, wherever they lie: the store's, and those with keys and state."""

    roots: list[bytes]
    excludes: list[str] = []
    default_excludes: bool = True
    one_file_system: bool = True
    leave: list[bytes] = []

    def without(self, folder: bytes) -> Scope:
        """The same, and this folder is left out too."""
        return msgspec.structs.replace(self, leave=[*self.leave, folder])


class SnapshotJob(msgspec.Struct, frozen=True, kw_only=True, tag="snapshot"):
    """Save `scope` as `snapshot`.

    `state` is the host's folder for records. `allowed` are packs with their sizes, of the parents and of this rental's own dead
    attempts, that are present and may be named again if the record trusts them; `verified` those that a full receipt covers, trusted
    whoever wrote them. Memory in bytes (0: plan.limits decides); 0 workers: one a core; `rate`: bytes a second that it may send, 0 as
    many as it can; `patience`: seconds for which a request that gets nowhere is tried again; `tune`: set the kernel's network settings
    for long and fast links, where this machine lets it.
    """

    repository: str
    snapshot: str
    attempt: str
    lineage: str
    keys: HostKeys
    scope: Scope
    state: bytes
    grant: Grant
    allowed: dict[str, int] = {}
    verified: list[str] = []
    continues: list[str] = []
    codec: Codec = "auto"
    level: int = 0
    compare: bool = False
    rescan: bool = False
    memory: int = 0
    workers: int = 0
    rate: int = 0
    patience: float = PATIENCE
    tune: bool = False
    gpu: UseGpu = "auto"


class Target(msgspec.Struct, frozen=True):
    """Where root number `root` goes: `path` becomes that root (or, for a file root, the file)."""

    root: int
    path: bytes


class RestoreJob(msgspec.Struct, frozen=True, kw_only=True, tag="restore"):
    """Restore `snapshot` at `targets`. `memory` to `tune` as in `SnapshotJob`.

    `places` names the grant's store and those of its fallbacks for people. `cache`: a folder of the host that keeps what is read, in
    at most `cache_bytes`; empty for none. `id`: 16 hex digits by which the job is found again.
    """

    repository: str
    snapshot: str
    lineage: str
    writer: str
    index: IndexRef
    keys: RestoreKeys
    targets: list[Target]
    state: bytes
    grant: Grant
    mode: Mode = "new"
    owners: Owners = "numbers"
    setuid: bool = False
    dry_run: bool = False
    memory: int = 0
    workers: int = 0
    rate: int = 0
    patience: float = PATIENCE
    tune: bool = False
    gpu: UseGpu = "auto"
    places: list[str] = []
    cache: bytes = b""
    cache_bytes: int = 0
    id: str = ""


class CheckJob(msgspec.Struct, frozen=True, kw_only=True, tag="check"):
    """The final check: has anything changed since `snapshot`, and is anything open for writing?"""

    snapshot: str
    repository: str
    scope: Scope
    state: bytes
    id_key: bytes
    ignore: list[str] = []

    def __repr__(self) -> str:
        return f"CheckJob({self.snapshot})"


class ProbeJob(msgspec.Struct, frozen=True, kw_only=True, tag="probe"):
    """What does this host remember of the workspace at these roots?"""

    repository: str
    scope: Scope
    state: bytes


class PreviewJob(msgspec.Struct, frozen=True, kw_only=True, tag="preview"):
    """What would a snapshot of this scope read? Nothing is written. `repository` is empty if there is none yet."""

    repository: str
    scope: Scope
    state: bytes
    rescan: bool = False


Job = SnapshotJob | RestoreJob | CheckJob | ProbeJob | PreviewJob


def name_of(job: Job) -> str:
    """What a job is found again by on its host; empty for the short ones, which are simply done again."""
    if isinstance(job, SnapshotJob):
        return f"{job.snapshot}-{job.attempt}"
    if isinstance(job, RestoreJob) and job.id:
        return f"{job.snapshot}-{job.id}"
    return ""


class Traffic(msgspec.Struct, frozen=True):
    """Requests sent to a store, `retries` among them; bytes of their bodies; how many at once the store was trusted with at the end."""

    requests: int = 0
    retries: int = 0
    sent: int = 0
    received: int = 0
    pace: int = 0


class SnapshotResult(msgspec.Struct, kw_only=True, tag="snapshot"):
    """`keys`: each writer's data key, sealed to the repository. Sizes in bytes. `traffic`: what went over the network (`Traffic`),
    all 0 where nothing did. `tuned`: network settings by name, each applied, already, denied or unsupported. `mounts`: other file systems
    that were left out, but for those that hold nobody's files."""

    snapshot: str
    rental: str
    index: IndexRef
    keys: dict[str, bytes]
    files: int
    directories: int
    links: int
    entries: int
    raw_bytes: int
    stored_bytes: int
    new_bytes: int
    packs: int
    chunks: int
    codecs: dict[str, CodecUse]
    problems: dict[str, int]
    problem_paths: list[str]
    stages: dict[str, float]
    seconds: float
    compared: bool
    read_files: int
    read_bytes: int
    versions: dict[str, str]
    excludes: list[str] = []
    traffic: Traffic = Traffic()
    tuned: dict[str, str] = {}
    mounts: list[str] = []


class RestoreResult(msgspec.Struct, kw_only=True, tag="restore"):
    """`fetched_bytes`: read from storage; `cached_bytes`: read from the host's cache instead; `written_files`: files whose content was
    written; `removed`: deleted by `replace`, `removed_paths` the first 20 of them (a folder with all that is in it is one path there).

    `traffic` and `tuned` as in `SnapshotResult`.
    """

    snapshot: str
    files: int
    directories: int
    links: int
    raw_bytes: int
    fetched_bytes: int
    written_files: int
    written_bytes: int
    kept_files: int
    removed: int
    requests: int
    usable_seconds: float
    seconds: float
    stages: dict[str, float]
    notes: list[str] = []
    traffic: Traffic = Traffic()
    tuned: dict[str, str] = {}
    cached_bytes: int = 0
    removed_paths: list[str] = []


class CheckResult(msgspec.Struct, kw_only=True, tag="check"):
    """`changed`, `open_files`: paths as text; `counts` of all, the lists hold the first 100."""

    snapshot: str
    rental: str
    time: float
    changed: int
    changed_paths: list[str]
    open_files: list[str]
    problems: list[str]
    seconds: float


class ProbeResult(msgspec.Struct, kw_only=True, tag="probe"):
    """`lineage` and `snapshot` of the record, if there is one; `continues`: own dead attempts whose packs are journaled.

    `ticket`: shows that the lineage was given to this host, so that none can name another's (format.crypto.ticket).
    """

    rental: str
    lineage: str | None = None
    ticket: bytes = b""
    snapshot: str | None = None
    continues: list[str] = []


class PreviewResult(msgspec.Struct, kw_only=True, tag="preview"):
    """`raw_bytes` of all files; `new` and `changed` files would be read, `gone` paths stand in the record alone.

    `snapshot` is what it was compared with, if there is a record. `problem_paths` as in `SnapshotResult`.
    """

    snapshot: str | None
    files: int
    directories: int
    links: int
    raw_bytes: int
    new_files: int
    new_bytes: int
    changed_files: int
    changed_bytes: int
    gone: int
    problems: dict[str, int]
    problem_paths: list[str]
    seconds: float


Result = SnapshotResult | RestoreResult | CheckResult | ProbeResult | PreviewResult

_jobs: msgspec.json.Decoder[Job] = msgspec.json.Decoder(Job)
_results: msgspec.json.Decoder[Result] = msgspec.json.Decoder(Result)


def encode(message: Job | Result) -> bytes:
    return msgspec.json.encode(message)


def decode_job(data: bytes) -> Job:
    """Raises `Malformed`."""
    try:
        return _jobs.decode(data)
    except BROKEN as error:
        raise Malformed(f"The job does not parse: {error}.", remedy="Install the same version of torpor on both sides.") from None


def decode_result(data: bytes) -> Result:
    """Raises `Malformed`."""
    try:
        return _results.decode(data)
    except BROKEN as error:
        raise Malformed(f"The host's result does not parse: {error}.", remedy="Install the same version of torpor on both sides.") from None


def show_path(path: bytes) -> str:
    """A path as text for people: undecodable bytes as \\xNN, control characters escaped."""
    return show_text(path.decode("utf-8", "backslashreplace"))


def show_text(text: str) -> str:
    """Text of somebody else's for people: control characters escaped, line ends among them."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def place_of(error: OSError) -> str:
    """` at PATH`, for people, where the system says what it refused; else nothing."""
    path = error.filename
    if isinstance(path, str):
        path = path.encode("utf-8", "surrogateescape")
    return f" at {show_path(path)}" if isinstance(path, bytes) else ""
