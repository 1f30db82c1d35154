"""torpor demo: a thin door to `python -m flows.demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.cli.parameters import argument

if TYPE_CHECKING:
    from torpor.cli.session import Session

PARAMETERS = (argument("PATH", "A folder of yours to show it with; it is only read. Without it, a workspace is made up.", required=False),)


def run(session: Session, path: str | None) -> int:
    """Everything happens in a temporary folder, which is removed at the end: a repository, two local machines, keys."""
    import os

    from torpor.cli import flow

    flow.check_installed("demo")
    result = flow.run(session, "flows.demo", ["--json-parameters", "-"], flow.chosen({"path": os.path.abspath(path) if path else None}))
    for line in result.get("lines", ()):
        session.say(line)
    session.answer(result)
    return 0
