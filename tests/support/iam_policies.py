"""Decide if IAM's policies allow a request. Conditions count, which moto ignores.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

Policy = Mapping[str, Any]
Context = Mapping[str, str]


def allows(policies: Iterable[Policy], action: str, resource: str, context: Context | None = None) -> bool:
    """True if a statement allows the request and no statement denies it. ``context`` has the request's condition keys."""
    effects = {
        statement["Effect"]
        for policy in policies
        for statement in policy["Statement"]
        if _any_like(action, statement["Action"])
        and _any_like(resource, statement["Resource"])
        and _conditions_hold(statement.get("Condition", {}), context or {})
    }
    return effects == {"Allow"}


def denies(policies: Iterable[Policy], action: str, resource: str, context: Context | None = None) -> bool:
    """True if a statement denies the request, even if other policies allow everything. ``policies`` may be a bucket's policy."""
    everything = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    return not allows([everything, *policies], action, resource, context)


def _conditions_hold(conditions: Mapping[str, Mapping[str, Any]], context: Context) -> bool:
    return all(
        _holds(operator, context.get(key), wanted)
        for operator, keys in conditions.items()
        for key, wanted in keys.items()
    )


def _holds(operator: str, given: str | None, wanted: str | list[str]) -> bool:
    if operator == "Null":
        return (given is None) == (wanted == "true")
    if given is None:
        return operator == "StringNotEquals"
    match operator:
        case "StringLike":
            return _any_like(given, wanted)
        case "StringEquals" | "Bool":
            return given in _listed(wanted)
        case "StringNotEquals":
            return given not in _listed(wanted)
        case "NumericLessThan":
            return all(float(given) < float(limit) for limit in _listed(wanted))
        case _:
            raise NotImplementedError(operator)


def _any_like(value: str, patterns: str | list[str]) -> bool:
    return any(fnmatchcase(value, re.sub(r"\[", "[[]", pattern)) for pattern in _listed(patterns))


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
