"""Pure: bytes to data and back, as docs/format.md lays them out. No file, socket or clock is touched here."""
