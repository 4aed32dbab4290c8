"""The settings of pgstow's own sessions. They override the settings of the server, the database, the role and the environment."""

_NO_LIMITS = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
}
_OWN = {
    # First, as in pg_dump: no name or operator in pgstow's SQL may mean an object of the database's users (CVE-2018-1058).
    "search_path": "''",
    # Transactions: a deferrable serializable transaction may wait for ever, and a standby allows no serializable transaction.
    "default_transaction_isolation": "'read committed'",
    "default_transaction_deferrable": "off",
    "default_transaction_read_only": "off",
    # The text of values, as pg_dump sets it in setup_connection(). psycopg and the comparison of content read this text.
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "quote_all_identifiers": "off",
    "synchronize_seqscans": "off",
    # The meaning of statements.
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "xmloption": "content",
    # As in pg_dump: a policy is an expression of the database's users, and would run with this role's rights. With the setting off, the
    # server refuses to read the table.
    "row_security": "off",
    "default_tablespace": "''",
    "client_min_messages": "warning",
    "exit_on_error": "off",
    "force_parallel_mode": "off",
    "debug_parallel_query": "off",
}
_SINCE = {"idle_session_timeout": 14, "transaction_timeout": 17, "debug_parallel_query": 16}
_UNTIL = {"force_parallel_mode": 15}
"""The last major version that knows a setting. _SINCE has the first."""


def settings_script(major: int, *, users: bool) -> str:
    """Return the statements that a session on a server of this major version runs first.

    With ``users``, they only turn off timeouts, so that values look as the database's users see them.

    All statements are SET, which needs no snapshot: a session could wait for a serializable snapshot, and a standby has none. The time zone
    and the format of bytea stay, since pg_dump uses them and the manifest names them.
    """
    wanted = _NO_LIMITS if users else _OWN | _NO_LIMITS
    known = {name: value for name, value in wanted.items() if _SINCE.get(name, 0) <= major <= _UNTIL.get(name, major)}
    return " ".join(f"SET {name} = {value};" for name, value in known.items())


NO_VIEWS = (
    "SELECT pg_catalog.set_config(name, 'view, foreign-table', false) FROM pg_catalog.pg_settings "
    "WHERE name = 'restrict_nonsystem_relation_kind'"
)
"""A query that forbids the session to read users' views and foreign tables. Servers have the setting since the minor versions of August 2024.
Without it, somebody could replace a table by a view before pgstow reads the table, and the view could run code (CVE-2024-7348). pg_dump runs
the same query."""


def english_messages(major: int) -> str:
    """Return a query that makes the server write messages in English, if the role may choose the language.

    pgstow finds out from a message's text if the failure may be temporary.
    """
    may = (
        "pg_catalog.has_parameter_privilege('lc_messages', 'SET')"
        if major >= 15
        else "pg_catalog.current_setting('is_superuser') = 'on'"
    )
    return f"SELECT pg_catalog.set_config('lc_messages', 'C', false) WHERE {may}"
