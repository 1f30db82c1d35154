"""Scan → chunk → compress → seal → pack → upload. `run.py` wires it on one screen."""
