"""What each decoding thread of a restore has of its own."""

from __future__ import annotations

from torpor.codecs.base import Scratch
from torpor.format.version import CHUNK_MAX
from torpor.wake.folders import Anchors, Folders
from torpor.wake.survey import Survey


class Worker:
    """One decoding thread's buffers and directory handles."""

    def __init__(self, survey: Survey, anchors: Anchors) -> None:
        self.coded = bytearray(CHUNK_MAX)
        self.raw = bytearray(CHUNK_MAX)
        self.scratch = Scratch()
        self.folders = Folders(survey, anchors)
