"""A bare host made ready, over real shells: once, again, by two at a time, over broken connections, on full and on bad disks."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.engine.lab import Lab, same, write
from tests.remote.bare import Bare, Flaky, Garbling
from torpor.errors import HostFailed, NoSpace
from torpor.events import Event
from torpor.remote import bundle
from torpor.remote.bootstrap import Engine, ask, bootstrap
from torpor.remote.delivery import PAUSES, Delivery
from torpor.remote.host import Subprocess
from torpor.remote.hostfacts import Unsuitable
from torpor.remote.platforms import of
from torpor.ssh.base import Dropped
from torpor.storage.local import LocalStore
from torpor.testing.samples import noise, weights

RENTAL = "0123456789abcdef0123456789abcdef"


def test_a_bare_host_runs_jobs(bare: Bare, bundles: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    engine = bootstrap(bare, bundles, events.append)
    assert engine.fresh
    assert bare.trips == 2
    assert {path.name for path in bare.home.iterdir()} == {".torpor"}
    assert [path.name for path in bare.base.iterdir()] == [os.path.basename(engine.folder)]
    first, last = events[0], events[-1]
    assert (first.kind, first.stage, first.state) == ("stage", "bootstrap", "started")
    assert (last.stage, last.state, last.done, last.total) == ("bootstrap", "ended", engine.sent_bytes, engine.sent_bytes)

    lab = Lab(tmp_path / "lab", store=LocalStore(str(tmp_path / "store")), host=Subprocess(engine.command, {}))
    workspace = tmp_path / "workspace"
    write(workspace / "weights.bin", weights("bf16", 3 << 20))
    write(workspace / "noise.bin", noise(2 << 20, seed=1))
    write(workspace / "skipped.tmp", "x")
    write(workspace / "src" / "main.py", "print()\n" * 1000)
    lab.take(workspace, scope={"excludes": ["*.tmp"]})
    lab.restore(tmp_path / "back")
    assert not (tmp_path / "back" / "skipped.tmp").exists()
    same(workspace, tmp_path / "back", ignore=("skipped.tmp",))


def test_a_second_time_takes_one_round_trip(bare: Bare, bundles: Path) -> None:
    first = bootstrap(bare, bundles)
    bare.trips = 0
    again = bootstrap(bare, bundles)
    assert (bare.trips, again.sent_bytes, again.fresh) == (1, 0, False)
    assert again.command == first.command


def test_nothing_but_the_bundle_is_seen(bare: Bare, bundles: Path) -> None:
    """Neither packages of the host's image, nor what its environment names."""
    engine = bootstrap(bare, bundles)
    (bare.home / "msgspec.py").write_text("raise SystemExit(7)")
    environment = {"PYTHONPATH": str(bare.home), "PYTHONSTARTUP": str(bare.home / "msgspec.py")}
    done = subprocess.run(engine.command, cwd=bare.home, env=environment, input=b"", capture_output=True, check=False)
    assert b'"torpor"' in done.stdout.splitlines()[0]
    code = "import sys; sys.path.insert(0, sys.argv[1]); import msgspec; print(msgspec.__file__)"
    python = engine.command[: engine.command.index(engine.folder)]
    told = subprocess.run([*python, "-c", code, engine.folder], env={}, capture_output=True, check=True, text=True).stdout
    assert told.startswith(engine.folder)


def test_the_rental_is_written_once(bare: Bare, bundles: Path) -> None:
    state = f".torpor/hosts/{RENTAL}"
    assert bootstrap(bare, bundles, state=state, rental=RENTAL).facts.rental == RENTAL
    path = bare.home / state / "rental"
    assert path.read_text() == RENTAL
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    bare.trips = 0
    assert bootstrap(bare, bundles, state=state, rental="f" * 32).facts.rental == RENTAL
    assert bare.trips == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["rental"]


def test_a_broken_connection_is_gone_on_with(tmp_path: Path, bundles: Path) -> None:
    waits: list[float] = []
    host = Flaky(tmp_path, cuts=[1_000_000, 0, 2_000_000])
    engine = bootstrap(host, bundles, pause=waits.append)
    assert engine.fresh
    assert waits == [PAUSES[0], PAUSES[0], PAUSES[1]]  # what arrived is known at the next connection
    whole = sum(path.stat().st_size for path in bundles.glob(f"{os.path.basename(engine.folder)}-*"))
    assert engine.sent_bytes <= whole + 3 * 128 * 1024
    assert len(list(host.base.iterdir())) == 1


def test_a_connection_that_never_holds_is_given_up(tmp_path: Path, bundles: Path) -> None:
    waits: list[float] = []
    with pytest.raises(Dropped):
        bootstrap(Flaky(tmp_path, cuts=[0] * 99), bundles, pause=waits.append)
    assert waits == list(PAUSES)


def test_two_at_once_do_not_disturb_each_other(bare: Bare, bundles: Path) -> None:
    bootstrap(Bare(bare.home / "elsewhere"), bundles)  # the bundle is made
    engines: list[Engine] = []
    threads = [threading.Thread(target=lambda: engines.append(bootstrap(Bare(bare.home), bundles))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert engines[0].command == engines[1].command
    assert [path.name for path in bare.base.iterdir()] == [os.path.basename(engines[0].folder)]
    assert _starts(engines[0])


def test_bytes_that_change_on_the_way_are_noticed(tmp_path: Path, bundles: Path) -> None:
    with pytest.raises(HostFailed, match="not what was sent, twice"):
        bootstrap(Garbling(tmp_path), bundles)
    assert list((tmp_path / ".torpor" / "engines").iterdir()) == []


def test_what_somebody_put_in_the_way_is_sent_anew(tmp_path: Path, bundles: Path) -> None:
    with pytest.raises(Dropped):
        bootstrap(Flaky(tmp_path, cuts=[500_000] + [0] * 99), bundles, pause=lambda _: None)
    host = Bare(tmp_path)
    (upload,) = host.base.glob("*.upload-0")
    data = bytearray(upload.read_bytes())
    data[1000] ^= 1
    upload.write_bytes(data)
    engine = bootstrap(host, bundles)
    assert engine.fresh
    assert _starts(engine)


def test_a_full_disk_is_told_and_what_arrived_is_kept(tmp_path: Path, bundles: Path) -> None:
    with pytest.raises(NoSpace, match="full"):
        bootstrap(Bare(tmp_path, limit=2000), bundles)
    (upload,) = (tmp_path / ".torpor" / "engines").iterdir()
    assert upload.stat().st_size == 2000 * 512
    engine = bootstrap(Bare(tmp_path), bundles)
    assert engine.fresh
    assert engine.sent_bytes < sum(path.stat().st_size for path in bundles.glob(f"{os.path.basename(engine.folder)}-*"))


def test_too_little_room_is_told_before(bare: Bare) -> None:
    facts = ask(bare)
    facts.need_room(1)
    with pytest.raises(NoSpace, match="free below"):
        facts.need_room(facts.free + 1 << 40)


@pytest.mark.parametrize("crashed", [False, True])
def test_after_a_start_of_the_kernel_it_is_looked_at_again(crashed: bool, bare: Bare, bundles: Path) -> None:
    """A crash may have left names without their bytes."""
    engine = bootstrap(bare, bundles)
    folder = Path(engine.folder)
    (folder / "ready").write_text("another boot")
    if crashed:
        os.truncate(folder / "torpor" / "jobs.py", 0)
    bare.trips = 0
    again = bootstrap(bare, bundles)
    assert (again.fresh, again.sent_bytes > 0, bare.trips) == (crashed, crashed, 2)
    assert _starts(again)
    bare.trips = 0
    bootstrap(bare, bundles)
    assert bare.trips == 1


def test_what_nobody_uses_is_deleted(bare: Bare, bundles: Path) -> None:
    engine = bootstrap(bare, bundles)
    folder = Path(engine.folder)
    old, used, recent = (bare.base / (letter * 32) for letter in "abc")
    for other in (old, used, recent):
        shutil.copytree(folder, other)
    running = [str(used) if word == engine.folder else word for word in engine.command]
    before = time.time() - 2 * 86400
    with subprocess.Popen(running, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (bare.base / "dddd.upload-0").write_bytes(b"x")
        (bare.base / f"{'e' * 32}.partial-1").mkdir()
        for path in (old / "in-use", used / "in-use", bare.base / "dddd.upload-0", bare.base / f"{'e' * 32}.partial-1"):
            os.utime(path, (before, before))
        shutil.rmtree(folder)
        again = bootstrap(bare, bundles)
        assert {path.name for path in bare.base.iterdir()} == {os.path.basename(again.folder), used.name, recent.name}
        process.communicate()


def test_an_engine_that_does_not_start_is_deleted(bare: Bare, bundles: Path) -> None:
    facts = ask(bare)
    python = facts.python(sys.version_info[:2])
    made = bundle.engine(of(facts, python), bundles)
    delivery = Delivery(bare, python.path, facts.base, lambda _: None)
    with pytest.raises(Unsuitable, match="No module named 'nothing'"):
        delivery.bring(made, bundles, ("nothing",), lambda _: None)
    assert list(bare.base.iterdir()) == []


def _starts(engine: Engine) -> bool:
    done = subprocess.run(engine.command, input=b"", capture_output=True, check=False, env={})
    return done.stdout.startswith(b'{"torpor"')
