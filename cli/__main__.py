"""The entry point of ``pgstow`` and of ``python -m cli``. It imports nothing slow before it handles Ctrl-C."""

import os
import signal
from contextlib import suppress
from types import FrameType


def main() -> None:
    """Run the command line. Exit with a code of docs/exit-codes.md.

    The import of the command line takes a part of a second. Ctrl-C ends the process even then, without a traceback.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a shell lets background jobs ignore the signal
        signal.signal(signal.SIGINT, _end)
    from cli.main import main as run

    run()


def _end(number: int, _frame: FrameType | None) -> None:
    """End the process at once. No command has begun, so nothing needs to be cleaned up."""
    with suppress(OSError):
        os.write(2, b"pgstow: Stopped by SIGINT; no backup was changed.\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
