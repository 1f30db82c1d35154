"""Directories by the tree: one compiled call for all below a root. What it leaves out is made and finished one by one."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator

from torpor.format.version import NONE
from torpor.native import kernels
from torpor.wake.folders import Anchors
from torpor.wake.metadata import Metadata
from torpor.wake.survey import Survey

ROOT = -1


class Tree:
    """The directories below a root, in tree order: `numbers` of entries, `names` as C strings, `parents` by place in this list."""

    def __init__(self, root: int) -> None:
        self.root = root
        self.numbers = array("I")
        self.parents = array("i")
        self.names = bytearray()


def trees(survey: Survey) -> Iterator[Tree]:
    """The roots that are directories, one by one."""
    tree: Tree | None = None
    places: dict[int, int] = {}
    for number, (parent, name) in survey.folders.items():
        if parent == NONE:
            if tree is not None:
                yield tree
            tree, places = Tree(survey.roots[number]), {number: ROOT}
        elif tree is not None:
            places[number] = len(tree.numbers)
            tree.numbers.append(number)
            tree.parents.append(places[parent])
            tree.names += name + b"\0"
    if tree is not None:
        yield tree


def make(survey: Survey, anchors: Anchors) -> set[int]:
    """Make directories; the numbers of those that are made."""
    lib = kernels.library()
    made: set[int] = set()
    if lib is None:
        return made
    for tree in trees(survey):
        handle = anchors.open(tree.root)
        try:
            made.update(tree.numbers[: kernels.make_folders(lib, handle, bytes(tree.names), tree.parents)])
        finally:
            os.close(handle)
    return made


def finish(survey: Survey, anchors: Anchors, metadata: Metadata) -> set[int]:
    """Give directories their permissions, owners and times; the numbers of those that have them, and whose children have."""
    lib = kernels.library()
    done: set[int] = set()
    if lib is None or metadata.occupied:
        return done
    for tree in trees(survey):
        modes, uids, gids, times = array("I"), array("I"), array("I"), array("q")
        for block, rows in survey.index.grouped(tree.numbers):
            for row in rows:
                mode, uid, gid = metadata.for_folder(block, row)
                modes.append(mode)
                uids.append(uid)
                gids.append(gid)
                times.append(block.mtime[row])
        handle = anchors.open(tree.root)
        try:
            columns = tree.parents, modes, uids, gids, times
            finished = kernels.finish_folders(lib, handle, bytes(tree.names), columns, metadata.change)
        finally:
            os.close(handle)
        done.update(number for number, fine in zip(tree.numbers, finished, strict=True) if fine)
    return done
