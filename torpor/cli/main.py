"""The entry point. Start-up counts, so this imports almost nothing, and typer only for what is not a plain command line."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal itself, without the enums that cost a millisecond
import os
import sys

# Whoever holds something beyond this process: connections that close themselves at the end, Prefect's services.
_HOLDERS = ("fabric", "prefect")


def command() -> None:
    """Be the process of a command: run it, and end with its exit code.

    Python takes an interpreter down module by module, 30 ms of a command that is done. A process that holds nothing beyond itself
    ends at once instead: what it wrote is flushed, and no thread is left that anybody waits for.
    """
    # Until the handlers of signals are there, Ctrl-C ends the process as it ends any: an exception in the midst of an import helps nobody.
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    from torpor.cli import streams

    streams.settle()
    code = main()
    if not any(name in sys.modules for name in _HOLDERS) and not _threads():
        try:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code)
        except (OSError, ValueError):  # what was said is lost; Python, which tries once more, says so and fails
            pass
    sys.exit(code)


def _threads() -> bool:
    """Whether a thread runs that Python would wait for."""
    threading = sys.modules.get("threading")
    return threading is not None and any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())


def main() -> int:
    """Run the command line of this process; its exit code is returned."""
    words = sys.argv[1:]
    if words == ["--version"]:
        from torpor import __version__

        print(f"torpor {__version__}")
        return 0
    import gc

    gc.set_threshold(200_000, 20, 20)  # a start makes 60,000 objects that stay; the default looks through them a hundred times
    _load_msgspec()
    from torpor.cli import session

    return session.main(words)


def _load_msgspec() -> None:
    """Import msgspec without typing_extensions, which it prefers to typing where it is installed, and which has nothing new for it."""
    hide = sys.version_info >= (3, 11) and "typing_extensions" not in sys.modules
    if hide:
        sys.modules["typing_extensions"] = None  # type: ignore[assignment]
    try:
        import msgspec  # noqa: F401
    finally:
        if hide:
            del sys.modules["typing_extensions"]
