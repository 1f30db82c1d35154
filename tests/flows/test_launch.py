"""The protocol that the command line speaks with flows, and signals."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flows import launch, server
from flows.hibernate import hibernate
from tests.flows.field import MIB, Field, fill, flow_run
from tests.flows.prefect_server import seed
from torpor.events import Event
from torpor.testing.compare import compare_trees


class Launched:
    """`python -m flows.launch`, its lines read one by one."""

    def __init__(self, field: Field, flow: str, parameters: object, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flows.launch", flow, "--json-parameters", "-"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=field.environment | environment,
        )  # fmt: skip
        assert self.process.stdin is not None
        self.process.stdin.write(parameters if isinstance(parameters, bytes) else json.dumps(parameters).encode())
        self.process.stdin.close()
        self.lines: list[dict[str, Any]] = []

    def read(self, until: str = "") -> dict[str, Any]:
        """Read on to the first event of this stage with bytes in it, or to the end; the last line is returned."""
        assert self.process.stdout is not None
        for text in self.process.stdout:
            line: dict[str, Any] = json.loads(text)
            self.lines.append(line)
            event = line.get("event", {})
            if until and event.get("stage") == until and event.get("done"):
                return line
        self.process.stdout.close()
        return self.lines[-1]

    def end(self) -> int:
        return self.process.wait(60)

    def kill(self) -> None:
        """Without a word; what it had said and nobody read is gone."""
        assert self.process.stdout is not None
        self.process.kill()
        self.process.stdout.close()
        assert self.end() == -signal.SIGKILL

    @property
    def stages(self) -> list[tuple[str, str]]:
        return [(line["stage"]["name"], line["stage"]["state"]) for line in self.lines if "stage" in line]


@pytest.mark.usefixtures("api")
def test_events_stages_and_a_result(field: Field, original: Path) -> None:
    field.machine("told", original)
    run = Launched(field, "hibernate", {"machine": "local:told", "name": "as told"})
    result = run.read()["result"]
    assert run.end() == 0
    assert result["destroyed"] is True
    events = [msgspec.convert(line["event"], Event) for line in run.lines if "event" in line]
    assert {event.stage for event in events} >= {"scan", "read", "compress", "upload", "verify"}
    for name in ("scan", "compress", "upload", "check", "verify", "destroy"):
        assert run.stages.index((name, "running")) < run.stages.index((name, "completed"))


def test_it_brings_a_server_of_its_own(field: Field, original: Path, template: Path, api: str) -> None:
    assert server.answers(api)
    assert seed(field.home / "prefect", template)
    machine = field.machine("alone", original)
    run = Launched(field, "hibernate", {"machine": "local:alone", "destroy_after": False}, PREFECT_API_URL="")
    assert run.read()["result"]["machine"] == "local:alone"
    assert run.end() == 0
    assert not (field.home / "prefect" / "server.json").exists()
    assert machine.status().state == "running"


@pytest.mark.parametrize(
    ("flow", "parameters", "code", "error"),
    [
        ("hibernate", {"machine": "local:x", "verify": "never"}, 2, "UsageError"),
        ("hibernate", {"machine": "local:nowhere"}, 19, "MachineError"),
        ("wake", {}, 10, "NotFound"),
    ],
)
@pytest.mark.usefixtures("api")
def test_failures_have_their_exit_codes(field: Field, flow: str, parameters: object, code: int, error: str) -> None:
    run = Launched(field, flow, parameters)
    failure = run.read()["failure"]
    assert (run.end(), failure["exit_code"], failure["error"]) == (code, code, error)
    assert failure["what"]


@pytest.mark.parametrize("url", ["http://me:SECRETQQ@127.0.0.1:1/api", "garbage", "http://[::::1]/api"])
def test_a_server_that_does_not_answer(field: Field, url: str) -> None:
    run = Launched(field, "hibernate", {"machine": "local:x"}, PREFECT_API_URL=url)
    failure = run.read()["failure"]
    assert (run.end(), failure["error"], failure["safe"]) == (23, "HostFailed", "Nothing was begun.")
    assert "unset PREFECT_API_URL" in failure["remedy"]
    assert "SECRETQQ" not in str(failure)


@pytest.mark.parametrize(("given", "word"), [(b"no json", "no JSON"), (b"[1]", "one JSON object")])
def test_what_are_no_parameters(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], given: bytes, word: str
) -> None:
    """Before there is a server or a flow."""
    monkeypatch.setattr("sys.argv", ["launch", "hibernate", "--json-parameters", "-"])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert launch.main() == 2
    failure = json.loads(capfdbinary.readouterr().out)["failure"]
    assert (failure["exit_code"], failure["error"]) == (2, "UsageError")
    assert word in failure["what"]


@pytest.mark.parametrize(("signum", "stage", "size", "rate"), [(signal.SIGTERM, "upload", 16, 12), (signal.SIGINT, "verify", 96, 0)])
@pytest.mark.usefixtures("api")
def test_a_signal_stops_it_and_it_goes_on(field: Field, tmp_path: Path, signum: signal.Signals, stage: str, size: int, rate: int) -> None:
    original = fill(tmp_path / "large", size * MIB)
    machine = field.machine("stopped", original)
    run = Launched(field, "hibernate", {"machine": "local:stopped", "rate": rate * MIB})
    run.read(until=stage)
    run.process.send_signal(signum)
    failure = run.read()["failure"]
    assert (run.end(), failure["error"]) == (130, "Interrupted")
    assert machine.status().state == "running"
    assert compare_trees(original, machine.workspace) == []
    assert flow_run(hibernate(machine="local:stopped"))["destroyed"] is True
