"""Reading back what was stored: presence, digests, seals, ids."""
