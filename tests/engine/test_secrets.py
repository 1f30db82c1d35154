"""Keys show nowhere: not in what is printed, logged, raised or sent, not in the store, not in a host's files or process."""

from __future__ import annotations

import base64
import logging
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.engine.lab import Lab, write
from torpor.control import catalogue, keys, repository, restores
from torpor.control.commit import data_keys
from torpor.errors import TorporError
from torpor.events import Event
from torpor.format import crypto, envelope, names, recovery
from torpor.jobs import CheckJob, Job, ProbeJob, RestoreJob, Result, SnapshotJob, encode
from torpor.remote.host import Host, InProcess, Subprocess
from torpor.settings import Secret, load
from torpor.storage.local import LocalStore

MIB = 1 << 20
PASSPHRASE = "correct horse battery staple"


def forms(secret: bytes) -> set[bytes]:
    """A key as it could stand in a text or in a file. Base64 at any of three offsets."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode(), repr(secret)[2:-1].encode()}
    for pad in range(3):
        text = base64.b64encode(bytes(pad) + secret)
        found |= {text[4:-4], base64.urlsafe_b64encode(bytes(pad) + secret)[4:-4]}
    return found


class Secrets:
    """All that must not show. `hosts` are keys that a host may hold for its job, and still must not print or keep."""

    def __init__(self) -> None:
        self.all: dict[str, bytes] = {}

    def add(self, name: str, secret: bytes) -> None:
        assert len(secret) >= 20
        self.all[name] = secret

    def of(self, repo: repository.Repository) -> None:
        private = repo.private()
        for name in ("sign", "box", "root"):
            self.add(f"{name} of {repo.id[:4]}", getattr(private.private, name))
        self.add(f"recovery of {repo.id[:4]}", private.recovery)

    def shown(self, data: bytes) -> list[str]:
        found = [name for name, secret in self.all.items() if any(form in data for form in forms(secret))]
        text = data.replace(b"-", b"").lower()
        plain = {name: recovery.encode(secret)[8:].replace("-", "").encode() for name, secret in self.all.items() if "recovery of" in name}
        return found + [name for name, form in plain.items() if form in text]


class Recording:
    """A host that notes every job and event, and looks at the engine's process when the first event of a job comes."""

    def __init__(self, inner: Host, look: Callable[[], None] = lambda: None) -> None:
        self.inner, self.look = inner, look
        self.jobs: list[Job] = []
        self.said: list[str] = []

    def run(self, job: Job, listen: Any, ask: Any = None) -> Result:
        self.jobs.append(job)

        def hear(event: Event) -> None:
            self.look()
            self.said += [repr(event), msgspec.json.encode(event).decode()]
            listen(event)

        result = self.inner.run(job, hear, ask)
        self.said += [repr(result), encode(result).decode()]
        return result


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "lab", store=LocalStore(str(tmp_path / "store")))


def fill(source: Path) -> Path:
    write(source / "code.py", "print()\n")
    write(source / "model", os.urandom(2 * MIB))
    return source


def job_secrets(lab: Lab, jobs: list[Job]) -> Secrets:
    """The keys of the repository and of all its snapshots, and those in jobs."""
    secrets = Secrets()
    secrets.of(lab.repository)
    root = lab.repository.private().private.root
    for snapshot in catalogue.load_all(lab.repository)[0]:
        secrets.add(f"id key of {snapshot.id}", crypto.id_key(root, snapshot.manifest.lineage))
        for writer, key in data_keys(lab.repository, snapshot.manifest.keyring).items():
            secrets.add(f"data key of {writer}", key)
            secrets.add(f"index key of {writer}", crypto.index_key(key, writer))
    for job in jobs:
        if isinstance(job, RestoreJob):
            for name, key in job.keys.packs.items():
                secrets.add(f"pack key of {name}", key)
    return secrets


def test_nothing_shows_on_the_way(lab: Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    """Two snapshots, a restore, verification; then everything that was said, logged, printed and left behind is searched."""
    caplog.set_level(logging.DEBUG)
    host = Recording(InProcess())
    lab.host = host
    source = fill(tmp_path / "source")
    lab.take(source, compare=True, name="n", machine="a")
    write(source / "more", b"more")
    lab.take(source)
    lab.restore(tmp_path / "target")
    lab.verify()
    secrets = job_secrets(lab, host.jobs)
    assert {type(job) for job in host.jobs} == {SnapshotJob, RestoreJob, ProbeJob}
    assert len(secrets.all) > 8
    out, err = capfd.readouterr()
    said = [*host.said, *map(repr, host.jobs), *map(str, host.jobs), caplog.text, out, err]
    assert secrets.shown("\n".join(said).encode()) == []
    for folder in ("store", "lab/state", "target"):
        for path in (tmp_path / folder).rglob("*"):
            if path.is_file() and not path.is_symlink():
                assert secrets.shown(path.read_bytes()) == [], path


def test_the_search_finds_what_it_looks_for(lab: Lab, tmp_path: Path) -> None:
    secrets = job_secrets(lab, [])
    key = lab.repository.private()
    for text in (key.private.root.hex(), base64.b64encode(b"xy" + key.private.box + b"z").decode(), recovery.encode(key.recovery).upper()):
        assert len(secrets.shown(f"before {text} after".encode())) == 1
    assert secrets.shown(lab.repository.home.keys(lab.repository.id).read_bytes())


@pytest.mark.parametrize("kind", [SnapshotJob, RestoreJob, CheckJob])
def test_jobs_show_no_key(kind: type, lab: Lab, tmp_path: Path) -> None:
    host = Recording(InProcess())
    lab.host = host
    taken = lab.take(fill(tmp_path / "source"))
    lab.restore(tmp_path / "target")
    secrets = job_secrets(lab, host.jobs)
    key = crypto.id_key(lab.repository.private().private.root, taken.snapshot.manifest.lineage)
    check = CheckJob(snapshot=taken.snapshot.id, repository=lab.repository.id, scope=host.jobs[0].scope, state=b"/x", id_key=key)  # type: ignore[union-attr]
    for job in [job for job in (*host.jobs, check) if isinstance(job, kind)]:
        assert secrets.shown(encode(job)) != []  # it is there, for the host
        for text in (repr(job), str(job), f"{job}", f"{[job]}", f"{job.grant!r}" if hasattr(job, "grant") else ""):
            assert secrets.shown(text.encode()) == []


def test_what_holds_keys_does_not_print_them(lab: Lab) -> None:
    secrets = job_secrets(lab, [])
    repo = lab.repository
    settings = load({"TORPOR_HOME": "/x", "TORPOR_RECOVERY_KEY": lab.recovery_key, "TORPOR_PASSPHRASE": PASSPHRASE})
    for thing in (repo, repo.private(), repo.private().private, repo.settings, settings, settings.recovery_key, repo.config, repo.home):
        for text in (repr(thing), str(thing), f"{[thing]}"):
            assert secrets.shown(text.encode()) == []
            assert PASSPHRASE not in text


# The engine's process.


def test_the_engines_process_knows_no_secret_of_ours(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment and its command line are open to everybody on the host who is the same user, and to root."""
    monkeypatch.setenv("TORPOR_RECOVERY_KEY", lab.recovery_key)
    monkeypatch.setenv("TORPOR_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws-secret-0123456789")
    monkeypatch.setenv("B2_APPLICATION_KEY", "b2-secret-0123456789")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    engine = Subprocess()
    seen: list[bytes] = []

    def look() -> None:
        if engine.process is not None and engine.process.poll() is None:
            folder = Path(f"/proc/{engine.process.pid}")
            seen.extend((folder / name).read_bytes() for name in ("environ", "cmdline"))

    host = Recording(engine, look)
    lab.host = host
    lab.take(fill(tmp_path / "source"))
    lab.restore(tmp_path / "target")
    secrets = job_secrets(lab, host.jobs)
    assert len(seen) >= 8
    assert any(b"torpor.remote.serve" in data for data in seen)
    for data in seen:
        assert secrets.shown(data) == []
        for word in (PASSPHRASE, "aws-secret", "b2-secret", "TORPOR_RECOVERY_KEY", "TORPOR_PASSPHRASE", "torpor1-"):
            assert word.encode() not in data


def test_a_host_is_never_sent_a_data_key_or_a_private_key(lab: Lab, tmp_path: Path) -> None:
    host = Recording(InProcess())
    lab.host = host
    source = fill(tmp_path / "source")
    lab.take(source)
    lab.take(source)
    lab.restore(tmp_path / "target")
    secrets = Secrets()
    secrets.of(lab.repository)
    for snapshot in catalogue.load_all(lab.repository)[0]:
        for writer, key in data_keys(lab.repository, snapshot.manifest.keyring).items():
            secrets.add(f"data key of {writer}", key)
    assert len(host.jobs) == 5
    for job in host.jobs:
        assert secrets.shown(encode(job)) == []


# Errors.


def every_error(lab: Lab, tmp_path: Path) -> dict[str, Callable[[], object]]:
    repo = lab.repository
    wrong = recovery.encode(bytes(range(20)))
    home = repo.home
    snapshot = catalogue.ids(repo)[-1]
    sealed = catalogue.load(repo, snapshot).manifest.keyring
    locked = keys.to_text(repo.private(), Secret(PASSPHRASE))
    return {
        "wrong recovery key": lambda: lab.open("new", TORPOR_RECOVERY_KEY=wrong),
        "recovery key with a slip": lambda: lab.open("new", TORPOR_RECOVERY_KEY=lab.recovery_key[:-1]),
        "no keys": lambda: lab.open("new").private(),
        "wrong key to confirm": lambda: keys.confirm(home, repo.private(), wrong, Secret("")),
        "wrong passphrase": lambda: keys.from_text(locked, Secret(PASSPHRASE[:-1])),
        "no passphrase": lambda: keys.from_text(locked, Secret("")),
        "damaged keys": lambda: keys.from_text({**keys.to_text(repo.private(), Secret("")), "sign": "AAAA"}, Secret("")),
        "keys that are none": lambda: keys.from_text({**keys.to_text(repo.private(), Secret("")), "root": "é"}, Secret("")),
        "a seal that does not open": lambda: data_keys(repo, {writer + "x": key for writer, key in sealed.items()}),
        "a false signature": lambda: envelope.unwrap("mark", repo.id, lab.store.get(names.manifest(snapshot)), repo.public_keys, "x"),
        "a damaged pack": lambda: _restore_damaged(lab, tmp_path),
        "no snapshot": lambda: catalogue.load(repo, "20260101T000000000-00000000"),
        "no target": lambda: restores.plan_targets([], None, {}),
    }


def _restore_damaged(lab: Lab, tmp_path: Path) -> None:
    for path in (tmp_path / "store/packs").rglob("*-0"):
        data = bytearray(path.read_bytes())
        data[70] ^= 1  # in its first chunk, however small the pack is
        path.write_bytes(data)
    lab.restore(tmp_path / "damaged")


def test_errors_do_not_tell(lab: Lab, tmp_path: Path) -> None:
    lab.take(fill(tmp_path / "source"))
    secrets = job_secrets(lab, [])
    for what, call in every_error(lab, tmp_path).items():
        with pytest.raises(TorporError) as caught:
            call()
        error = caught.value
        text = "".join(traceback.format_exception(error)) + str(error) + repr(error) + str(error.as_dict())
        assert secrets.shown(text.encode()) == [], what
        assert PASSPHRASE[:-1] not in text.replace(Path(__file__).read_text(), ""), what


# At rest on the control side.


def test_keys_at_rest(tmp_path: Path) -> None:
    for passphrase in ("", PASSPHRASE):
        folder = tmp_path / f"home{len(passphrase)}"
        store = LocalStore(str(tmp_path / f"store{len(passphrase)}"))
        settings = load({"TORPOR_HOME": str(folder), "TORPOR_PASSPHRASE": passphrase}, store.url)
        old = os.umask(0)
        try:
            repo = repository.open_repository(settings, create=True)
        finally:
            os.umask(old)
        path = repo.home.keys(repo.id)
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        secrets = Secrets()
        secrets.of(repo)
        assert (secrets.shown(path.read_bytes()) == []) is bool(passphrase)
        assert PASSPHRASE.encode() not in path.read_bytes()
        again = repository.open_repository(settings)
        assert again.private().private.root == repo.private().private.root
        for found in (tmp_path / f"store{len(passphrase)}").rglob("*"):
            if found.is_file():
                assert secrets.shown(found.read_bytes()) == []
