"""The README's "Use it", word for word and in its order: no machine is hibernated that no line before it has made."""

from __future__ import annotations

import shlex
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_a_machine_is_made_before_it_is_hibernated() -> None:
    block = README.read_text(encoding="utf-8").partition("## Use it\n")[2].partition("```sh\n")[2].partition("```")[0]
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    made = [line[line.index("--on") + 1] for line in lines if "wake" in line]
    hibernated = [(at, line[2]) for at, line in enumerate(lines) if line[1:2] == ["hibernate"]]
    assert hibernated
    for at, machine in hibernated:
        assert machine in made
        assert any(machine in line for line in lines[:at] if "wake" in line)
