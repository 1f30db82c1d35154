"""Named objects and grants: the control side's stores, and the host's end of a grant. A new store is one file and one row."""
