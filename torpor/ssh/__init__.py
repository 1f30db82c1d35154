"""Commands on another machine: pinned host keys, streams, tunnels."""
