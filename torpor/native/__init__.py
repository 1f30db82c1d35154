"""Compiled helpers: chunks, byte planes, directories and files by the batch, ids and their table, the check of an entry list.

Without them (no compiler at build time) Python and numpy do the same. The C files become one shared library when torpor is built
(tools/hatch_build.py); `kernels` loads it, `coding` brings it together with zstd. It needs no Python headers, so one wheel for a
platform serves every version of Python.
"""
