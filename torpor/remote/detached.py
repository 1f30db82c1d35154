"""A host's end of a job that outlives its connection. Commands, each run by a connection of its own:

    attach STATE NAME FROM WAIT   begin the job, or follow it from line FROM of its journal on
    stop STATE NAME               ask it to finish what it has in hand and end
    kill STATE NAME               end it at once
    forget STATE NAME             end it, and delete what is kept of it

`attach` speaks as `torpor.remote.serve` does, with three differences. The greeting tells what there is of the job: `new` (then the job
follows as a line; it runs in a process of its own from then on), `running`, `ended`, `died`. Lines that are kept have numbers. An `ask`
that a connection left without an answer is asked again of the next one. The job's process serves one connection at a time, the newest.

The job, its keys and its grants come by standard input and go from there through memory; nothing of them is written down.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import msgspec

from torpor import __version__
from torpor.errors import HostFailed, TorporError, UsageError
from torpor.jobs import place_of
from torpor.remote.jobfolder import Draft, JobFolder, folder_of, tidy
from torpor.remote.protocol import LINE_MAX, PROTOCOL, Line
from torpor.remote.relay import relay

_FINISH = 60.0  # seconds that a job which is forgotten may take for what it has in hand
_SETTLE = 5.0  # seconds from a job's last line to the end of its process
_STEP = 0.02


def say(line: Line) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def attach(folder: JobFolder, since: int, wait: float) -> None:
    """Serve one connection, until it or the job ends."""
    known = folder.known()
    say(Line(torpor=__version__, protocol=PROTOCOL, job=known))
    if known == "died":
        return
    if known == "new":
        text = sys.stdin.buffer.readline(LINE_MAX)  # nothing follows it until the job has asked something
        if not text.endswith(b"\n"):
            return  # the connection broke: whoever comes next is greeted in the same way
        _begin(folder, text, wait)
        del text
    _follow(folder, since)


def _follow(folder: JobFolder, since: int) -> None:
    until = time.monotonic() + _SETTLE
    while (known := folder.known()) in ("running", "ended"):
        if known == "ended":
            sys.stdout.buffer.writelines(folder.lines()[since - 1 :])
            sys.stdout.buffer.flush()
            return
        job = folder.connect()
        if job is not None:
            with job:
                job.sendall(b'{"since":%d}\n' % since)
                relay(job)
            return
        if time.monotonic() > until:
            return
        time.sleep(_STEP)  # it is about to end


def _begin(folder: JobFolder, text: bytes, wait: float) -> None:
    """Start the job's process, which nothing ties to this one. If another connection did so meanwhile, that one's is the job."""
    tidy(folder.jobs)
    draft = Draft(folder)
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        os.close(ready)
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if os.fork():
            os._exit(0)
        _work(draft, tell, text, wait)
    os.close(tell)
    draft.close()
    os.waitpid(child, 0)
    failed = os.read(ready, 1 << 12)
    os.close(ready)
    if failed:
        raise HostFailed(
            f"The job did not start on the host: {failed.decode(errors='replace')}.",
            safe="Nothing was changed.",
            remedy="See to the cause, then run the command again.",
        )


def _work(draft: Draft, tell: int, text: bytes, wait: float) -> None:
    """The rest of the job's process. Never returns."""
    code = 1
    try:
        mine = False
        try:
            mine = draft.publish()
        except OSError as error:
            os.write(tell, str(error.strerror).encode())
        if mine:
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, 0)
            os.dup2(nothing, 1)
            os.dup2(draft.errors, 2)
            os.close(nothing)
            os.close(tell)
            from torpor.remote import daemon

            code = daemon.run(text, draft.lines, draft.door, wait)
    except BaseException:  # noqa: BLE001 - below this frame is the code of another process
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def stop(folder: JobFolder, number: signal.Signals = signal.SIGTERM) -> None:
    pid = folder.pid()
    if pid is not None:
        os.kill(pid, number)


def stop_begun(folder: JobFolder, number: signal.Signals) -> None:
    """The same. Raises `HostFailed` if there is no job yet: it may be about to begin."""
    if folder.known() == "new":
        raise HostFailed("There is no such job.", safe="Nothing was stopped.")
    stop(folder, number)


def forget(folder: JobFolder) -> None:
    """Returns once the job's process is gone, and its folder."""
    for number in (signal.SIGINT, signal.SIGKILL):  # nobody will answer what it asks
        stop(folder, number)
        until = time.monotonic() + _FINISH
        while folder.is_alive() and time.monotonic() < until:
            time.sleep(_STEP)
        if not folder.is_alive():
            break
    folder.remove()


def main(words: list[str] | None = None) -> int:
    """One command, of this process's arguments unless given; its exit code is returned."""
    try:
        command, state, name, *rest = sys.argv[1:] if words is None else words
        folder = folder_of(os.fsencode(state), name)
        if command == "attach":
            attach(folder, max(1, int(rest[0])), float(rest[1]))
        elif command == "stop":
            stop_begun(folder, signal.SIGTERM)
        elif command == "kill":
            stop_begun(folder, signal.SIGKILL)
        elif command == "forget":
            forget(folder)
        else:
            raise UsageError(f"There is no {command}.")
    except BrokenPipeError:
        return 1  # the connection is gone
    except TorporError as error:
        say(Line(failure=error.as_dict()))
        return error.exit_code
    except OSError as error:
        what = f"The host refused a step{place_of(error)}: {error.strerror or error}."
        say(Line(failure=HostFailed(what, safe="Nothing was destroyed.").as_dict()))
        return HostFailed.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
