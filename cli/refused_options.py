"""Options of PostgreSQL's programs that a command doesn't take, with the reason. Whoever types such an option reads the reason."""

from collections.abc import Mapping

Refused = Mapping[tuple[str, ...], str]
"""By an option's spellings: the reason in words that follow a colon. The page in docs/ on the program's options repeats the words."""

OF_PG_RESTORE: Refused = {}

_BY_COMMAND: Mapping[str, Refused] = {"restore": OF_PG_RESTORE}


def why_refused(command: str | None, option: str) -> str | None:
    """Return a sentence on why the command doesn't take the option; None if nobody would expect it to."""
    refused = _BY_COMMAND.get(command or "", {})
    reason = next((reason for spellings, reason in refused.items() if option in spellings), None)
    return reason and f"pgstow {command} doesn't take {option}: {reason}"
