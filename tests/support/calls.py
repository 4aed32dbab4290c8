"""Count calls of functions, to see how work grows with its input. Unlike a time, the count doesn't depend on the machine."""

import sys
from collections.abc import Callable
from typing import Any


def calls(work: Callable[[], object]) -> int:
    """Return the number of calls of functions, in Python and in C, without steps of generators."""
    found = 0

    def count(frame: Any, event: str, _: object) -> None:
        nonlocal found
        found += event == "c_call" or (event == "call" and frame.f_code.co_name != "<genexpr>")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found
