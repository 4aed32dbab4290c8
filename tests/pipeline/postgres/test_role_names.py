"""Roles in an archive are replaced everywhere where a role is named, and nowhere else."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.postgres.role_names import roles_of, with_roles
from pipeline.postgres.toc import Section, TocEntry

ENTRY = TocEntry(1, 0, "ACL", Section.NONE, "", "TABLE t", "", (), "", "", "", "")


def renamed(sql: str, description: str, roles: dict[str, str]) -> str:
    return with_roles(replace(ENTRY, description=description, definition=sql), roles).definition


@pytest.mark.parametrize(
    ("description", "before", "after"),
    [
        ("ACL", "GRANT SELECT ON TABLE app.app TO app;", 'GRANT SELECT ON TABLE app.app TO "new";'),
        ("ACL", "GRANT ALL ON TABLE t TO app WITH GRANT OPTION;", 'GRANT ALL ON TABLE t TO "new" WITH GRANT OPTION;'),
        ("ACL", "REVOKE ALL ON SCHEMA app FROM app;", 'REVOKE ALL ON SCHEMA app FROM "new";'),
        ("ACL", "REVOKE ALL ON SCHEMA app FROM PUBLIC;", "REVOKE ALL ON SCHEMA app FROM PUBLIC;"),
        ("ACL", 'GRANT SELECT("TO app") ON TABLE t TO "App";', 'GRANT SELECT("TO app") ON TABLE t TO "App";'),
        ("ACL", "GRANT ALL ON DATABASE app TO app;", 'GRANT ALL ON DATABASE app TO "new";'),
        (
            "ACL",
            "SET SESSION AUTHORIZATION app;\nGRANT SELECT ON TABLE t TO x;\nRESET SESSION AUTHORIZATION;\n",
            'SET SESSION AUTHORIZATION "new";\nGRANT SELECT ON TABLE t TO x;\nRESET SESSION AUTHORIZATION;\n',
        ),
        ("ACL", "GRANT SELECT ON TABLE t TO x GRANTED BY app;", 'GRANT SELECT ON TABLE t TO x GRANTED BY "new";'),
        (
            "ACL",
            'GRANT ALL ON FUNCTION app.app(app text, "FOR app" app) TO x;',
            'GRANT ALL ON FUNCTION app.app(app text, "FOR app" app) TO x;',
        ),
        (
            "DEFAULT ACL",
            "ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA app GRANT SELECT ON TABLES TO x;",
            'ALTER DEFAULT PRIVILEGES FOR ROLE "new" IN SCHEMA app GRANT SELECT ON TABLES TO x;',
        ),
        (
            "POLICY",
            "CREATE POLICY app ON app.app FOR SELECT TO x, app USING ((name = 'TO app'::text) AND pg_has_role('app', app.t, 'USAGE'));",
            "CREATE POLICY app ON app.app FOR SELECT TO x, \"new\" USING ((name = 'TO app'::text) AND pg_has_role('app', app.t, 'USAGE'));",
        ),
        (
            "USER MAPPING",
            "CREATE USER MAPPING FOR app SERVER app OPTIONS (\n    \"user\" 'app',\n    password E'\\\\'' FOR app'\n);",
            "CREATE USER MAPPING FOR \"new\" SERVER app OPTIONS (\n    \"user\" 'app',\n    password E'\\\\'' FOR app'\n);",
        ),
        (
            "DATABASE PROPERTIES",
            "ALTER ROLE app IN DATABASE app SET search_path TO 'app', 'FOR app';",
            "ALTER ROLE \"new\" IN DATABASE app SET search_path TO 'app', 'FOR app';",
        ),
        ("TABLE", "CREATE TABLE t (GRANT TO app);", "CREATE TABLE t (GRANT TO app);"),
        ("ACL", "$x$ TO app; $x$ TO app", '$x$ TO app; $x$ TO "new"'),
    ],
)
def test_a_role_is_told_from_other_objects_with_its_name(description: str, before: str, after: str) -> None:
    assert renamed(before, description, {"app": "new"}) == after


def test_public_is_not_a_role() -> None:
    entry = replace(ENTRY, description="USER MAPPING", definition="CREATE USER MAPPING FOR public SERVER s;")
    assert roles_of(entry) == set()


@given(role=st.text(min_size=1).filter(lambda name: name != "public"), other=st.text(min_size=1))
def test_roles_with_any_name_are_found_and_renamed(role: str, other: str) -> None:
    quoted = '"' + role.replace('"', '""') + '"'
    grant = f"GRANT SELECT ON TABLE {quoted}.{quoted} TO {quoted}, x;"
    changed = renamed(grant, "ACL", {role: other})
    assert changed == grant.replace(f" TO {quoted}", ' TO "' + other.replace('"', '""') + '"')
    assert roles_of(replace(ENTRY, definition=changed)) == {other, "x"} - {"public"}


def test_the_time_for_literals_without_an_end_grows_with_their_length() -> None:
    sql = "GRANT x TO app; " + " ".join(f"$a{number}$" for number in range(100_000))
    assert renamed(sql, "ACL", {"app": "new"}).startswith('GRANT x TO "new"; ')
