"""The command line: one file a command, one table of them. What every command shares is in `session`."""
