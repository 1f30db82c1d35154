"""A server of our own: shared, found again, ended by the last, and started only where none is named."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from flows import server
from tests.flows.prefect_server import seed
from torpor.errors import HostFailed


def test_whoever_comes_second_shares_it(api: str, server_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL")
    with server.running(server_home) as url:
        assert url == api
    assert server.answers(api)  # the first is still there, so the server is too
    assert (server_home / "prefect" / "server.json").exists()


def test_a_named_server_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    with server.running(tmp_path) as url:
        assert url == "http://127.0.0.1:1/api"
    assert list(tmp_path.iterdir()) == []


def test_a_server_of_the_users_profile_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    profiles = tmp_path / "profiles.toml"
    profiles.write_text('active = "work"\n[profiles.work]\nPREFECT_API_URL = "http://127.0.0.1:2/api"\n[profiles.other]\n')
    with server.running(tmp_path / "home") as url:
        assert url == "http://127.0.0.1:2/api"
    assert not (tmp_path / "home").exists()


@pytest.mark.usefixtures("api")
def test_it_is_started_and_ended(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert seed(tmp_path / "prefect", template)
    (tmp_path / "prefect" / "server.json").write_text(json.dumps({"pid": os.getpid(), "url": "http://127.0.0.1:9/api"}))
    monkeypatch.setenv("TORPOR_RECOVERY_KEY", "a secret that a server has no use for")
    monkeypatch.delenv("PREFECT_API_URL")
    before = {name: value for name, value in os.environ.items() if name.startswith("PREFECT_")}
    with server.running(tmp_path) as url:
        assert server.answers(url)
        assert os.environ["PREFECT_API_URL"] == url
        pid = json.loads((tmp_path / "prefect" / "server.json").read_text())["pid"]
        assert pid != os.getpid()  # what a dead server left was not believed
        assert b"TORPOR_RECOVERY_KEY" not in Path(f"/proc/{pid}/environ").read_bytes()
        tables = sqlite3.connect(tmp_path / "prefect" / "prefect.db")
        assert tables.execute("select count(*) from flow").fetchone() is not None
        tables.close()
    assert not Path(f"/proc/{pid}").exists()
    assert not server.answers(url)
    assert not (tmp_path / "prefect" / "server.json").exists()
    assert {name: value for name, value in os.environ.items() if name.startswith("PREFECT_")} == before


def test_a_server_that_cannot_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(server, "ATTEMPTS", 1)
    (tmp_path / "prefect" / "prefect.db").mkdir(parents=True)  # no database can be there
    with pytest.raises(HostFailed, match="did not start") as caught, server.running(tmp_path):
        pass
    assert str(tmp_path / "prefect" / "server.log") in caught.value.remedy


def test_without_prefect_the_remedy_is_told() -> None:
    code = "import sys; sys.modules['prefect'] = None; from flows.launch import main; sys.exit(main())"
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": str(Path(__file__).parents[2])}
    environment |= {"TORPOR_HOME": os.environ["TORPOR_HOME"], "PREFECT_API_URL": "http://127.0.0.1:1/api"}
    done = subprocess.run(
        [sys.executable, "-c", code, "wake", "--json-parameters", "-"],
        check=False,
        input=b"{}",
        capture_output=True,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 24, done.stderr
    assert "Prefect is not installed" in json.loads(done.stdout)["failure"]["what"]
