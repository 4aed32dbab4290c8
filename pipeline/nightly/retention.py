"""The tables of pgstow.toml for retention."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from pipeline.catalog.attestation import Level
from pipeline.nightly.fields import Number, read_duration
from pipeline.prune.policy import Policy
from pipeline.toml_file import Settings


class Retention(Settings):
    """Which backups to keep; all that no rule keeps may go."""

    keep_last: Number = Field(default=0, description="Keep this many of the newest backups")
    keep_hourly: Number = Field(
        default=0,
        description="Keep the newest backup of each hour, for this many hours; hours without a backup don't count",
    )
    keep_daily: Number = Field(
        default=0,
        description="Keep the newest backup of each day, for this many days; days without a backup don't count",
    )
    keep_weekly: Number = Field(
        default=0,
        description="Keep the newest backup of each week, for this many weeks; weeks without a backup don't count",
    )
    keep_monthly: Number = Field(
        default=0,
        description="Keep the newest backup of each month, for this many months; months without a backup don't count",
    )
    keep_yearly: Number = Field(
        default=0,
        description="Keep the newest backup of each year, for this many years; years without a backup don't count",
    )
    keep_within: Annotated[
        timedelta,
        BeforeValidator(read_duration),
        WithJsonSchema(
            {
                "type": "string",
                "pattern": "^[0-9]{1,6}[hdw]$",
                "description": "Keep the newest backup, and all backups made within this time before it, such as 36h, 30d or 8w; default: none",
            }
        ),
    ] = timedelta()
    keep_tagged: list[str] = Field(
        default=[], description="Keep the backups that have one of these tags; default: none"
    )
    only_verified: Literal["objects", "bytes", "archive", "restore"] | None = Field(
        default=None,
        description="Let the rules count only backups that are verified at this level or a higher level; default: no level is needed",
    )

    @model_validator(mode="after")
    def _has_rule(self) -> Self:
        if self.policy().is_empty:
            raise ValueError("has no rule that keeps backups: add one, such as keep_daily = 7")
        return self

    def policy(self) -> Policy:
        """Return the rules as a policy for :mod:`pipeline.prune.prune`."""
        level = None if self.only_verified is None else Level(self.only_verified)
        rules = {
            name: getattr(self, name) for name in Retention.model_fields if name not in ("keep_tagged", "only_verified")
        }
        return Policy(**rules, keep_tagged=frozenset(self.keep_tagged), only_verified=level)
