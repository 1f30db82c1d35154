"""The host's end of a job that a Prefect worker does there: a relay between the SSH connection and the flow run's process.

    ← {"torpor": "0.1.0", "protocol": 2}
    → {"api": …, "password": …, "pool": …, "queue": …, "worker": …, "job": …}     an `Errand`
    → {"type": "snapshot", …}                                                     the job
    ← events, questions, the result or the failure, as `torpor.remote.serve` has them; → answers, or {"stop": true}

It starts a run-once worker for the errand's queue, and ends when that does, or when the connection does. Nothing of the errand or the
job is written down, and neither is on a command line: the way to the API is in the worker's environment, the job in memory alone.
"""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from types import FrameType

import msgspec

from flows.on_host_words import SOCKET, Errand
from torpor import __version__
from torpor.errors import HostFailed
from torpor.remote.host import clean_environment
from torpor.remote.jobsocket import Relay
from torpor.remote.protocol import LINE_MAX, PROTOCOL, Line

KEPT = 20  # lines of the worker's that are told if it fails
PATIENCE = 60.0  # seconds that a run which was cut off may take for what it has in hand


def say(text: bytes) -> None:
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def environment(errand: Errand, home: str, path: str) -> dict[str, str]:
    """All that the worker gets."""
    return clean_environment() | {
        SOCKET: path,
        "PREFECT_HOME": home,
        "PREFECT_API_URL": errand.api,
        "PREFECT_API_AUTH_STRING": errand.password,
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "false",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_LOGGING_COLORS": "false",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # deployments/automations.yaml
        "DO_NOT_TRACK": "1",
    }


class Worker:
    """The worker's process, and the last lines that it said."""

    def __init__(self, errand: Errand, home: str, path: str) -> None:
        command = [sys.executable, "-m", "flows.run_once", errand.pool, errand.queue, errand.worker]
        self.said: collections.deque[str] = collections.deque(maxlen=KEPT)
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(errand, home, path),
            cwd=home, start_new_session=True, text=True, errors="replace",
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        if self._process.stdout is not None:
            for line in self._process.stdout:
                self.said.append(line.rstrip()[:500])

    def wait(self) -> int:
        code = self._process.wait()
        self._reader.join(5)
        return code

    def end(self, seconds: float) -> None:
        """Give it time to end, then end it, with the flow run's process."""
        for number, patience in ((None, seconds), (signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
            if number is not None:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=patience)
                return


def serve(errand: Errand, job: bytes) -> int:
    with tempfile.TemporaryDirectory(prefix="torpor-worker-") as home:  # for its user alone
        path = os.path.join(home, "job")
        relay = Relay(path, errand.job, job, say)
        worker = Worker(errand, home, path)
        threading.Thread(target=_answers, args=(relay, worker), daemon=True).start()
        code = worker.wait()
        relay.close()
    if not relay.over:
        say(msgspec.json.encode(Line(failure=_failed(code, list(worker.said)).as_dict())) + b"\n")
    return 0 if relay.over else HostFailed.exit_code


def _answers(relay: Relay, worker: Worker) -> None:
    while (text := sys.stdin.buffer.readline(LINE_MAX)).endswith(b"\n"):
        relay.answer(text)
    relay.close()
    worker.end(PATIENCE)


def _failed(code: int, said: list[str]) -> HostFailed:
    return HostFailed(
        f"The worker on the host ended without a result (exit code {code}). It said: {' / '.join(said) or 'nothing'}",
        safe="What reached the store is kept; nothing was destroyed.",
        remedy="See the flow run's log. Is Prefect 3.8.8 installed on the host?",
    )


def _interrupt(signum: int, _: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def main() -> int:
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _interrupt)
    say(msgspec.json.encode(Line(torpor=__version__, protocol=PROTOCOL)) + b"\n")
    errand = msgspec.json.decode(sys.stdin.buffer.readline(LINE_MAX), type=Errand)
    return serve(errand, sys.stdin.buffer.readline(LINE_MAX))


if __name__ == "__main__":
    sys.exit(main())
