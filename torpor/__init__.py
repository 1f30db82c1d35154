"""torpor puts rented GPU machines to sleep in object storage and wakes them somewhere else."""

__version__ = "0.1.0"
