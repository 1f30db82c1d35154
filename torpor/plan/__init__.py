"""Pure decisions: where to cut, what goes together, what comes first, what may be removed. No I/O."""
