"""A bundle's `__main__.py`: `python -I -S FOLDER [FOLDER …] [-m] MODULE [ARGUMENTS]` runs the module of the first folder.

It sees what is in the folders and the standard library, and none of the packages that the host's image has. The folders are locked
while it runs, so that a later bootstrap does not delete them. Processes that it starts find the same packages.
"""

import fcntl
import os
import sys
import time
from contextlib import suppress
from importlib import import_module


def main() -> int:
    """Run the module's `main`. `try MODULE …` imports modules, which leaves them compiled."""
    folders = [sys.path[0]]
    while len(sys.argv) > 1 and sys.argv[1].startswith("/"):
        folders.append(sys.argv.pop(1))
    sys.path[:1] = folders
    os.environ["PYTHONPATH"] = os.pathsep.join(folders)
    for folder in folders:
        with suppress(OSError):
            fd = os.open(os.path.join(folder, "in-use"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            os.utime(fd, (time.time(), time.time()))
    if sys.argv[1] == "-m":  # so that it can be called as Python itself is
        del sys.argv[1]
    name = sys.argv.pop(1)
    if name == "try":
        for module in sys.argv[1:]:
            import_module(module)
        return 0
    run: object = import_module(name).main()
    return run if isinstance(run, int) else 0


if __name__ == "__main__":
    sys.exit(main())
