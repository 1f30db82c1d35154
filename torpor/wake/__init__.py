"""Locate → download → open → decompress → write. `run.py` wires it on one screen."""
