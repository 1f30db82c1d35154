"""Somewhere to run: one file a kind of machine, one row in `table`."""
