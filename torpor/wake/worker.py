"""What each decoding thread of a restore has of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.codecs.base import Scratch
from torpor.format.version import CHUNK_MAX
from torpor.pages import pages
from torpor.wake.folders import Anchors, Folders
from torpor.wake.survey import Survey

if TYPE_CHECKING:
    from torpor.wake.lane import Slot


class Worker:
    """One decoding thread's buffers and directory handles."""

    def __init__(self, survey: Survey, anchors: Anchors) -> None:
        self.coded = pages(CHUNK_MAX)
        self.raw = pages(CHUNK_MAX)
        self.scratch = Scratch()
        self.folders = Folders(survey, anchors)
        self.lane: Slot | None = None  # of a thread of the GPU
