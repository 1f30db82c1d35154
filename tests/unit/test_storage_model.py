"""Any sequence of calls: a folder answers as memory does."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from torpor.errors import TorporError
from torpor.storage.base import Store
from torpor.storage.local import LocalStore
from torpor.storage.memory import MemoryStore

# Ends of paths that are no folder of another: a folder cannot hold both `a` and `a/b`, which the format never asks for.
names = st.sampled_from(["config.json", "snapshots/a.json", "snapshots-b", "packs/a/1", "packs/a/10", "packs/a-b/1", "packs/b/c/d"])
prefixes = st.sampled_from(["", "p", "packs/", "packs/a", "packs/a/", "snapshots", "none/"])
data = st.binary(max_size=8)


def answer(call: Callable[[], object]) -> object:
    try:
        return call()
    except TorporError as error:
        return type(error)


def size_of_put(store: Store, name: str, data: bytes, if_absent: bool) -> int:
    return store.put(name, data, if_absent=if_absent).size


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.stores: tuple[Store, Store] = (LocalStore(os.path.join(self.folder.name, "x")), MemoryStore())

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(name=names, data=data, if_absent=st.booleans())
    def put(self, name: str, data: bytes, if_absent: bool) -> None:
        a, b = [answer(partial(size_of_put, store, name, data, if_absent)) for store in self.stores]
        assert a == b

    @rule(name=names, start=st.integers(0, 9), length=st.none() | st.integers(0, 9))
    def get(self, name: str, start: int, length: int | None) -> None:
        a, b = [answer(partial(store.get, name, start, length)) for store in self.stores]
        assert a == b

    @rule(prefix=prefixes)
    def listing(self, prefix: str) -> None:
        a, b = [[info[:2] for info in store.list(prefix)] for store in self.stores]
        assert a == b

    @rule(chosen=st.lists(names, max_size=3))
    def delete(self, chosen: list[str]) -> None:
        a, b = [store.delete(chosen) for store in self.stores]
        assert a == b == len(chosen)

    @rule()
    def clean(self) -> None:
        assert [store.clean() for store in self.stores] == [0, 0]


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
