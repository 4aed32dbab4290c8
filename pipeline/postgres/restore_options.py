"""The options of pg_restore: frozen, and checked before the work begins."""

from dataclasses import dataclass, fields
from itertools import combinations

from pipeline.errors import InvalidRequest

SECTIONS = ("pre-data", "data", "post-data")
"""pg_restore's names of an archive's sections. Pre-data has definitions. Data has rows and large objects. Post-data has indexes, constraints,
triggers and the like."""
SINCE = {
    "no_table_access_method": 15,
    "transaction_size": 17,
    "no_data": 18,
    "no_policies": 18,
    "no_schema": 18,
    "no_statistics": 18,
    "statistics": 18,
    "statistics_only": 18,
}
"""The first major version whose pg_restore has the option, by the field of RestoreOptions. All versions have the other options."""
_EXCLUSIVE = (
    ("schema_only", "data_only", "statistics_only", "sections"),
    ("schema_only", "no_schema"),
    ("data_only", "no_data"),
    ("statistics_only", "no_statistics"),
    ("statistics", "schema_only", "data_only", "no_statistics"),
    ("single_transaction", "transaction_size"),
)
"""Groups of fields that exclude each other, by pg_restore's rules."""


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """The options of pg_restore, with its names and meanings. Raises InvalidRequest if they contradict each other.

    https://www.postgresql.org/docs/current/app-pgrestore.html
    """

    schema_only: bool = False
    data_only: bool = False
    statistics_only: bool = False
    no_schema: bool = False
    no_data: bool = False
    no_statistics: bool = False
    statistics: bool = False
    sections: tuple[str, ...] = ()
    """Names in :data:`SECTIONS`; empty for all sections."""
    clean: bool = False
    if_exists: bool = False
    no_owner: bool = False
    use_set_session_authorization: bool = False
    no_privileges: bool = False
    no_comments: bool = False
    no_policies: bool = False
    no_publications: bool = False
    no_subscriptions: bool = False
    no_security_labels: bool = False
    no_tablespaces: bool = False
    no_table_access_method: bool = False
    role: str | None = None
    disable_triggers: bool = False
    superuser: str | None = None
    single_transaction: bool = False
    transaction_size: int | None = None
    """The number of objects after which pg_restore commits; None for one transaction for each object."""
    keep_going: bool = False
    """True to go on after errors, which is pg_restore's default. If False, the first error ends pg_restore (``--exit-on-error``)."""

    def __post_init__(self) -> None:
        if unknown := [section for section in self.sections if section not in SECTIONS]:
            raise InvalidRequest(
                f"{unknown[0]!r} is not a section of an archive: say {', '.join(SECTIONS[:2])} or {SECTIONS[2]}."
            )
        for one, other in (pair for group in _EXCLUSIVE for pair in combinations(group, 2)):
            if getattr(self, one) and getattr(self, other):
                raise InvalidRequest(f"{option_of(one)} and {option_of(other)} exclude each other: say one of them.")
        if self.clean and self._makes_nothing:
            raise InvalidRequest(
                "--clean drops objects that the restore then makes again, but this restore makes no objects: "
                "leave out --clean, or restore definitions, too."
            )
        if self.if_exists and not self.clean:
            raise InvalidRequest("--if-exists concerns the objects that --clean drops: say both.")
        if self.disable_triggers and not self._makes_nothing:
            raise InvalidRequest(
                "--disable-triggers is for --data-only: other restores make the triggers after the data."
            )
        if self.superuser and not self.disable_triggers:
            raise InvalidRequest("--superuser names the role that --disable-triggers acts as: say both.")
        if self.keep_going and (self.single_transaction or self.transaction_size):
            option = option_of("single_transaction" if self.single_transaction else "transaction_size")
            raise InvalidRequest(f"{option} stops at the first error, so it can't be combined with --keep-going.")

    @property
    def _makes_nothing(self) -> bool:
        return self.data_only or self.no_schema or self.statistics_only

    @property
    def makes_tables(self) -> bool:
        """True if the restore makes tables. They must not exist before."""
        return not self._makes_nothing and (not self.sections or "pre-data" in self.sections)

    @property
    def loads_data(self) -> bool:
        """True if the restore loads rows and large objects."""
        no_data = self.schema_only or self.no_data or self.statistics_only
        return not no_data and (not self.sections or "data" in self.sections)

    @property
    def restores_statistics(self) -> bool:
        """True if the restore includes the planner's statistics that the archive may have."""
        return not (self.schema_only or self.data_only or self.no_statistics)

    @property
    def left_out(self) -> frozenset[str]:
        """The kinds of entries about the database itself that the restore leaves out, by pg_dump's names."""
        kinds = {"ACL": self.no_privileges, "COMMENT": self.no_comments, "SECURITY LABEL": self.no_security_labels}
        return frozenset(kind for kind, given in kinds.items() if given)

    @property
    def newest(self) -> tuple[int, str]:
        """The lowest major version of pg_restore that has all given options, and the option that needs it; 0 if every version has them."""
        return max(((major, option_of(name)) for name, major in SINCE.items() if getattr(self, name)), default=(0, ""))

    def arguments(self) -> list[str]:
        """Return the options for pg_restore's command line."""
        found = [] if self.keep_going else ["--exit-on-error"]
        for name in (field.name for field in fields(self) if field.name != "keep_going"):
            match getattr(self, name):
                case True:
                    found.append(option_of(name))
                case tuple() as values:
                    found += [f"{option_of(name)}={value}" for value in values]
                case str() | int() as value if value:
                    found.append(f"{option_of(name)}={value}")
        return found


def option_of(name: str) -> str:
    """Return the option for a field of RestoreOptions, as pg_restore and pgstow spell it."""
    return "--section" if name == "sections" else f"--{name.replace('_', '-')}"
