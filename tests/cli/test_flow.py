"""The command line's end of the conversation with a flow; the other end is played by a package named `flows`."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.cli.door import Cli, finish, until
from torpor.errors import HookFailed

HEAD = """
import json, os, signal, sys, threading
from torpor.errors import Interrupted, MachineError
def say(**line):
    print(json.dumps(line), flush=True)
parameters = json.loads(sys.stdin.readline())
"""
RESULT = {
    "machine": "local:box", "snapshot": "20260101T000000000-01234567", "destroyed": True, "files": 3, "raw_bytes": 5000,
    "stored_bytes": 2000, "new_bytes": 2000, "seconds": 1.5, "depth": "full", "receipt": "receipts/x.json", "notes": ["a note"],
    "fetched_bytes": 2000, "usable_seconds": 0.5, "provision_seconds": 0.1, "stages": {}, "price": None, "tried": [],
    "problems": {},
}  # fmt: skip


@pytest.fixture
def flows(cli: Cli, tmp_path: Path) -> Path:
    """A file that is run as `flows.launch`."""
    for package in ("flows", "prefect"):
        (tmp_path / "path" / package).mkdir(parents=True)
        (tmp_path / "path" / package / "__init__.py").touch()
    before = os.environ.get("PYTHONPATH", "")
    cli.extra["PYTHONPATH"] = f"{tmp_path / 'path'}{os.pathsep + before if before else ''}"
    return tmp_path / "path" / "flows" / "launch.py"


def test_parameters_events_and_a_result(cli: Cli, flows: Path, tmp_path: Path) -> None:
    flows.write_text(
        HEAD
        + f"""
open({str(tmp_path / "seen")!r}, "w").write(json.dumps([sys.argv[1:], parameters, os.environ["TORPOR_STORAGE"], os.environ["TORPOR_HOME"]]))
print("prefect's own log", file=sys.stderr)
say(event=dict(kind="stage", at=0.1, stage="scan", state="started", unit="files"))
say(event=dict(kind="stage", at=0.2, stage="scan", state="ended", done=3, unit="files"))
say(event=dict(kind="note", at=0.3, text="look here", level="warning"))
say(stage=dict(name="destroy", state="running"))
say(stage=dict(name="destroy", state="completed", message="gone"))
say(result={RESULT!r})
"""
    )
    words = ["hibernate", "local:box", "--keep", "--label", "a=b", "--accept", "x", "--accept", "y", "--memory", "1G", "--storage", "/s"]
    done = cli.ok(*words)
    argv, parameters, storage, home = json.loads((tmp_path / "seen").read_text())
    assert argv == ["hibernate", "--json-parameters", "-"]
    assert parameters == {
        "machine": "local:box", "destroy_after": False, "default_excludes": True, "labels": {"a": "b"}, "accept": ["x", "y"],
        "memory_mib": 1024,
    }  # fmt: skip
    assert (storage, home) == ("/s", str(cli.home))
    assert "local:box is destroyed, and that is confirmed: snapshot 20260101T000000000-01234567" in done.out
    assert "warning: look here" in done.err
    assert "destroy completed: gone" in done.err
    assert "prefect" not in done.err
    assert "prefect's own log" in cli.ok(*words, "-v").err
    assert cli.json(*words) == RESULT
    assert cli.json("wake", "latest", "--on", "local:box", "--merge", "--setuid") == RESULT
    assert json.loads((tmp_path / "seen").read_text())[1] == {"snapshot": "latest", "on": "local:box", "mode": "merge", "setuid": True}
    assert "local:box is awake" in cli.ok("wake", "latest").out


def test_a_failure(cli: Cli, flows: Path) -> None:
    flows.write_text(HEAD + 'say(failure=MachineError("It burns.", safe="Nothing was lost.", remedy="Run.").as_dict())\nsys.exit(19)\n')
    error = cli.fails(19, "hibernate", "local:box")
    assert (error["error"], error["what"], error["safe"]) == ("MachineError", "It burns.", "Nothing was lost.")


def test_an_end_without_a_word(cli: Cli, flows: Path) -> None:
    flows.write_text(HEAD + 'print("no luck", file=sys.stderr)\nos._exit(7)\n')
    done = cli.run("hibernate", "local:box", "--json")
    assert (done.code, done.json["error"]) == (23, "HostFailed")
    assert "exit code 7" in done.json["what"]
    assert "no luck" in done.err


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_passed_on(cli: Cli, flows: Path, tmp_path: Path, signum: signal.Signals) -> None:
    flows.write_text(
        HEAD
        + f"""
def stop(*_):
    say(failure=Interrupted("The flow was stopped.", safe="The machine still runs.").as_dict())
    os._exit(130)
signal.signal(signal.SIGTERM, stop)
open({str(tmp_path / "running")!r}, "w").close()
threading.Event().wait(60)
"""
    )
    process = cli.start("hibernate", "local:box", "--json")
    until((tmp_path / "running").exists, "the flow")
    process.send_signal(signum)
    done = finish(process)
    assert (done.code, done.json["what"], done.json["safe"]) == (130, "The flow was stopped.", "The machine still runs.")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_takes_no_result_back(cli: Cli, flows: Path, tmp_path: Path, signum: signal.Signals) -> None:
    """While the flow's process winds up: what it did is done, and must be known."""
    flows.write_text(
        HEAD
        + f"""
say(result={RESULT!r})
open({str(tmp_path / "done")!r}, "w").close()
for number in range(500):
    threading.Event().wait(0.02)
    if os.path.exists({str(tmp_path / "go")!r}):
        break
"""
    )
    process = cli.start("hibernate", "local:box", "--json")
    until((tmp_path / "done").exists, "the result")
    process.send_signal(signum)
    (tmp_path / "go").touch()
    done = finish(process)
    assert (done.code, done.json["snapshot"]) == (0, RESULT["snapshot"])


@pytest.mark.parametrize(("destroyed", "code"), [(False, 3), (True, 0)])
def test_files_that_could_not_be_saved(cli: Cli, flows: Path, destroyed: bool, code: int) -> None:
    """Of a machine that is gone they were accepted."""
    result = RESULT | {"destroyed": destroyed, "problems": {"torn": 2, "special": 1}}
    flows.write_text(f"{HEAD}\nsay(result={result!r})\n")
    assert cli.run("hibernate", "local:box", *([] if destroyed else ["--keep"])).code == code


def test_a_second_interrupt_ends_the_flow_too(cli: Cli, flows: Path, tmp_path: Path) -> None:
    flows.write_text(
        HEAD
        + f"""
open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
signal.signal(signal.SIGTERM, lambda *_: open({str(tmp_path / "asked")!r}, "w").close())
os.rename({str(tmp_path / "pid")!r}, {str(tmp_path / "running")!r})
while True:
    threading.Event().wait(60)
"""
    )
    process = cli.start("wake", "latest")
    until((tmp_path / "running").exists, "the flow")
    process.send_signal(signal.SIGINT)
    until((tmp_path / "asked").exists, "the flow's signal")
    process.send_signal(signal.SIGINT)
    assert finish(process).code == 130
    flow = Path("/proc") / (tmp_path / "running").read_text()
    until(lambda: not flow.exists() or "(zombie)" in (flow / "status").read_text(), "the flow's end")


def test_the_install_line_is_the_one_of_the_project() -> None:
    import tomllib

    from torpor.cli.flow import INSTALL

    root = Path(__file__).parents[2]
    wanted = tomllib.loads((root / "pyproject.toml").read_text())["dependency-groups"]["prefect"]
    assert sorted(INSTALL.removeprefix("pip install ").replace('"', "").split()) == sorted(wanted)


def test_a_hook_that_failed_keeps_its_name(cli: Cli, flows: Path) -> None:
    failure = HookFailed("It failed.", safe="All is there.").as_dict()
    flows.write_text(HEAD + f"say(failure={failure!r})\nsys.exit(19)\n")
    assert cli.fails(19, "wake", "latest")["error"] == "HookFailed"
