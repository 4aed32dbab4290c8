"""Count calls of functions, to see how work grows with its input. Unlike a time, the count doesn't depend on the machine."""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from types import CodeType
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


def calls_by_function(work: Callable[[], object], modules: Sequence[str]) -> Counter[str]:
    """Return the number of calls of each function by its qualified name, on this thread and on threads that the work starts.

    A step of a generator counts as a call. ``modules`` has parts of the paths of the modules whose calls are counted.
    """
    found: list[CodeType] = []  # a list's append is safe in threads

    def note(frame: Any, event: str, _: object) -> None:
        if event == "call":
            found.append(frame.f_code)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return Counter(code.co_qualname for code in found if any(module in code.co_filename for module in modules))
