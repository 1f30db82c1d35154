"""Making a bare host ready to run jobs, in seconds: no pip, no SFTP, no root, no compiler and no internet are assumed there.

One round trip asks what the host is; if it has the engine, that is all. Else the bundle is streamed to a few lines of Python that take
it, check it, unpack it and try it (torpor.remote.receiver). What a broken connection left is gone on with.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from torpor.errors import TorporError
from torpor.events import Listener, Progress, ignore
from torpor.remote import bundle, gpuextra
from torpor.remote.bundle import Bundle
from torpor.remote.delivery import PAUSES, Delivery
from torpor.remote.hostfacts import Facts, parse, question
from torpor.remote.platforms import Platform, of
from torpor.ssh.base import Dropped, Shell

SERVE = "torpor.remote.serve"
# What jobs import, tried once on the host; its Python keeps them compiled from then on.
TRIED = (
    "torpor.codecs.lz4", "torpor.codecs.planes", "torpor.codecs.zstd", "torpor.hibernate.check", "torpor.hibernate.preview",
    "torpor.hibernate.probe", "torpor.hibernate.run", "torpor.remote.daemon", "torpor.remote.detached", SERVE,
    "torpor.storage.transport_http", "torpor.wake.run",
)  # fmt: skip


class Engine(msgspec.Struct, frozen=True):
    """A host that is ready. `command` starts its serving end; `folder` is the bundle there. `fresh`: it was not there before.

    `seconds`: from the first question on; `sent_bytes`: of bundles. `note`: why what was asked for can't be had; empty if it can.
    """

    command: tuple[str, ...]
    folder: str
    seconds: float
    sent_bytes: int
    fresh: bool
    facts: Facts
    note: str = ""

    def starts(self, module: str, *arguments: str) -> tuple[str, ...]:
        """The command that runs the `main` of another module of the engine's."""
        return (*self.command[:-1], module, *arguments)


def bootstrap(
    shell: Shell,
    cache: Path,
    listen: Listener = ignore,
    *,
    state: str = "",
    rental: str = "",
    with_gpu: bool = False,
    pause: Callable[[float], None] = time.sleep,
) -> Engine:
    """Make the host behind `shell` ready. `cache`: the folder of bundles, `TORPOR_HOME/bundles`. A `rental` is written into the host's
    `state` folder (below its home, unless absolute), unless one is there.

    Raises `NoPython`, `Unsuitable`, `NoSpace`, `MissingDependency`, `HostFailed`, and what the shell raises: `Dropped` or `Unreachable`
    after several connections that brought nothing further.
    """
    began = time.monotonic()
    progress = Progress(listen)
    stage = progress.stage("bootstrap")
    try:
        facts = ask(shell, state, rental, pause)
        python = facts.python(sys.version_info[:2])
        where = of(facts, python)
        delivery = Delivery(shell, python.path, facts.base, pause)

        def bring(what: Bundle, modules: tuple[str, ...]) -> bool:
            """One round trip, if the host has it and its kernel was started since it was looked at; none if it was not."""
            if facts.boot and facts.engines.get(what.name) == facts.boot:
                return False
            if what.name not in facts.engines:
                facts.need_room(what.room)
                stage.expect(what.size)
            return delivery.bring(what, cache, modules, stage.add)

        engine = bundle.engine(where, cache)
        fresh = bring(engine, TRIED)
        folders, note = [f"{facts.base}/{engine.name}"], ""
        if with_gpu:
            more, note = gpuextra.bundle_for(facts.driver, where, cache)
            try:
                for one in more:
                    fresh |= bring(one, ("cupy",))
                    folders.append(f"{facts.base}/{one.name}")
            except TorporError as error:  # the processor does what the GPU would have done
                note = str(error)
    finally:
        progress.end("bootstrap")
    command = (python.path, "-I", "-S", "-X", "utf8", *folders, SERVE)
    return Engine(command, folders[0], time.monotonic() - began, delivery.sent, fresh, facts, note)


def prepare(where: Platform, cache: Path) -> Bundle:
    """Make the bundle for a host before it has booted, if it is known what will run there."""
    return bundle.engine(where, cache)


def ask(shell: Shell, state: str = "", rental: str = "", pause: Callable[[float], None] = time.sleep) -> Facts:
    """What the host is, in one round trip. If the connection breaks, it is asked again."""
    script = question(state, rental)
    for wait in PAUSES:
        try:
            return parse(shell.run(script, seconds=120.0).out)
        except Dropped:
            pause(wait)
    return parse(shell.run(script, seconds=120.0).out)
