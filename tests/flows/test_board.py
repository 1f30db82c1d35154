"""How stages of a job are told to those that wait for them. No server is needed."""

from __future__ import annotations

import threading

import pytest

from tasks.board import Figures, StageBoard
from tasks.words import amount, rate
from torpor.errors import StorageUnavailable
from torpor.events import Event, Progress


def test_a_stage_is_over_when_it_ended() -> None:
    board = StageBoard()
    progress = Progress(board.listen)
    stage = progress.stage("upload")
    assert board.wait("upload", 0)[1] is False
    stage.add(2048)
    progress.end("upload")
    figures, over = board.wait("upload", 0)
    assert (figures.done, figures.total, figures.percent, over) == (2048, 2048, 100.0, True)
    assert str(figures).startswith("2.05 kB in 0.0 s")


def test_whoever_waits_is_woken() -> None:
    board = StageBoard()
    seen: list[tuple[Figures, bool]] = []
    waiting = threading.Thread(target=lambda: seen.append(board.wait("scan", 30)))
    waiting.start()
    board.listen(Event(kind="stage", at=1.0, stage="scan", state="started", unit="files"))
    board.listen(Event(kind="progress", at=2.0, stage="scan", done=5, unit="files"))
    board.listen(Event(kind="stage", at=3.5, stage="scan", state="ended", done=10, total=10, unit="files"))
    waiting.join(5)
    ((figures, over),) = seen
    assert (figures.seconds, figures.done, figures.unit, over) == (2.5, 10, "files", True)


def test_a_job_that_is_over_ends_every_wait() -> None:
    board = StageBoard()
    board.finish()
    assert board.wait("download", 30) == (Figures(), True)  # nothing was to be fetched: the stage never began


def test_a_job_that_failed_fails_its_open_stages_alone() -> None:
    board = StageBoard()
    board.listen(Event(kind="stage", at=0.0, stage="scan", state="started"))
    board.listen(Event(kind="stage", at=1.0, stage="scan", state="ended", done=7, total=7))
    board.finish(StorageUnavailable("gone"))
    board.finish()  # the first outcome counts
    assert board.wait("scan", 0)[0].done == 7
    with pytest.raises(StorageUnavailable):
        board.wait("upload", 0)


def test_another_attempt_begins_anew() -> None:
    board = StageBoard()
    for at in (0.0, 10.0):
        board.listen(Event(kind="stage", at=at, stage="upload", state="started"))
        board.listen(Event(kind="progress", at=at + 1, stage="upload", done=50, total=200))
    figures = board.figures("upload")
    assert (figures.began, figures.percent, figures.ended) == (10.0, 25.0, False)


def test_rounds_add_up() -> None:
    both = Figures(1.0, 3.0, 10, 10, "bytes", True) + Figures(5.0, 5.5, 2, 2, "bytes", True)
    assert (both.done, both.seconds, both.ended) == (12, 2.5, True)


def test_amounts() -> None:
    assert (amount(1, "files"), amount(12345, "files")) == ("1 file", "12,345 files")
    assert (rate(1 << 20, 2.0, "bytes"), rate(5, 0.01, "files")) == ("524 kB/s", "")
