"""Keys stay in TORPOR_HOME: Prefect never sees any of them."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from flows import server
from flows.hibernate import hibernate
from flows.wake import wake
from tests.flows.field import Field, flow_run, newest, until
from torpor.control import catalogue
from torpor.control.commit import data_keys
from torpor.errors import DestroyRefused, TargetNotEmpty
from torpor.format import crypto


def forms(secret: bytes) -> list[bytes]:
    """A key as it could stand in a file: as it is, hexadecimal, base64 of every alignment of a JSON string."""
    return [secret, secret.hex().encode(), base64.b64encode(secret), base64.urlsafe_b64encode(secret), repr(secret)[2:-1].encode()]


def keys(field: Field, snapshot: str) -> dict[str, bytes]:
    """Every key of a repository and of a snapshot."""
    repository = field.repository()
    private = repository.private()
    manifest = catalogue.load(repository, snapshot).manifest
    found = {"sign": private.private.sign, "box": private.private.box, "root": private.private.root, "recovery": private.recovery}
    found |= {f"data key of {writer}": key for writer, key in data_keys(repository, manifest.keyring).items()}
    return found | {"id key": crypto.id_key(private.private.root, manifest.lineage)}


def test_prefect_holds_no_key(api: str, field: Field, original: Path, server_home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert server.answers(api)
    box = field.machine("secret", original)
    with open(box.workspace / "table.csv", "r+b"), pytest.raises(DestroyRefused):
        flow_run(hibernate("local:secret"))
    slept = flow_run(hibernate("local:secret", name="named"))
    flow_run(wake(on="local:opened"))
    with pytest.raises(TargetNotEmpty):
        flow_run(wake(on="local:opened"))
    until(lambda: any("Finished in state Completed" in line for line in newest("hibernate local:secret").logs), "the run's log")
    until(lambda: any("Finished in state Failed" in line for line in newest("wake latest").logs), "the failed run's log")

    text = json.loads(next((field.home / "keys").iterdir()).read_text())["recovery"]
    secrets = {name: forms(key) for name, key in keys(field, slept["snapshot"]).items()} | {"recovery key": [text.encode()]}
    said = capfd.readouterr()
    folders = [server_home / "prefect", Path(os.environ["HOME"], "prefect")]  # the server's, and this process's own
    files = {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}
    assert any(name.endswith("prefect.db") for name in files)
    assert sum(slept["snapshot"].encode() in data for data in files.values())  # what is sought would be found there
    files["terminal"] = (said.out + said.err).encode()
    leaks = [
        f"{name} in {file}" for name, all_forms in secrets.items() for file, data in files.items() if any(f in data for f in all_forms)
    ]
    assert leaks == []
