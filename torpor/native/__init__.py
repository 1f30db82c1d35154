"""Compiled helpers: byte planes, and small files by the batch. Without them (no compiler at build time) Python and numpy do the same.

`planes.c` and `files.c` become one shared library when torpor is built (tools/hatch_build.py); `kernels` loads it. It needs no
Python headers, so one wheel for a platform serves every version of Python.
"""
