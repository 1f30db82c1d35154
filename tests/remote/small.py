"""Stands for `python` on a host whose packs are small, so that there are many: `small.py -m MODULE …`."""

from __future__ import annotations

import runpy
import sys

sys.path.pop(0)  # this folder

import torpor.format.version

if __name__ == "__main__":
    setattr(torpor.format.version, "PACK_TARGET", 1 << 20)  # noqa: B010 - mypy knows that it is final
    module = sys.argv[2]
    del sys.argv[1:3]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
