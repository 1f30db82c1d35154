"""Words of a host that somebody else owns: nothing in them steers the terminal that shows them."""

from __future__ import annotations

import pytest

from torpor.errors import HostFailed
from torpor.events import Event
from torpor.jobs import ProbeResult
from torpor.remote.plain import plain, plain_error, plain_result

CLEAR, TITLE, BELL, RIGHT_TO_LEFT = "\x1b[2J", "\x1b]0;root\x07", "\a", "\u202e"


@pytest.mark.parametrize("evil", [CLEAR, TITLE, BELL, RIGHT_TO_LEFT, "a\rb", "a\nb", "\x9b31m", "\udcff"])
def test_what_could_steer_a_terminal_is_escaped(evil: str) -> None:
    for text in (
        plain(Event(kind="note", at=1.0, text=f"before{evil}after", stage=evil)).text,
        plain_error(HostFailed(f"before{evil}after", safe=evil, remedy=evil)).what,
    ):
        assert text.startswith("before")
        assert text.endswith("after")
        assert text.isprintable()
    assert plain(Event(kind="note", at=1.0, stage=evil)).stage.isprintable()


def test_what_is_harmless_stays_as_it_is() -> None:
    event = Event(kind="note", at=1.0, text="grüße, 文字, 1.2 GB")
    assert plain(event) is event
    result = ProbeResult(rental="r1", lineage="l", ticket=b"\x1b[2J")
    assert plain_result(result) is result  # bytes are no words


def test_an_error_keeps_its_kind() -> None:
    assert type(plain_error(HostFailed("x"))) is HostFailed
