"""``pgstow hold``."""

import dataclasses
from contextlib import closing
from typing import TYPE_CHECKING

from cli import display, options, trust_options
from cli.command import Commands
from cli.errors import if_stopped, result_of
from cli.progress import show_progress
from pipeline.counting import counted

if TYPE_CHECKING:
    from pipeline.catalog.find import BackupSelector

app = Commands(
    name="hold",
    help="Put legal holds on backups, so that nobody can delete them (S3 with Object Lock, Google Cloud Storage).",
    no_args_is_help=True,
)


@app.command(
    "add",
    examples=[
        "pgstow hold add 20261123T020000Z-7f3a9c --from s3://bucket/prefix",
        "pgstow hold add latest --from s3://bucket/prefix --database shop",
    ],
)
def add(
    backup: options.BackupId,
    *,
    from_: options.From,
    database: options.Database = None,
    cluster: options.Cluster = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    trusted_key: trust_options.TrustedKeys = None,
    unsigned: trust_options.Unsigned = False,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300,
) -> None:
    """Put a legal hold on a backup: on its manifest and all its objects.

    For a backup of a whole server, pgstow also holds the backups of its databases and of its roles.
    """
    from pipeline.catalog.find import BackupSelector

    trust = trust_options.make_trust(trusted_key)
    wanted = BackupSelector(backup, cluster, database, trust=trust, unsigned=unsigned)
    _hold(wanted, from_, store_option, give_up_after, held=True, json=json, quiet=quiet)


@app.command(
    "remove",
    examples=[
        "pgstow hold remove 20261123T020000Z-7f3a9c --from s3://bucket/prefix",
        "pgstow hold remove latest --from s3://bucket/prefix --database shop",
    ],
)
def remove(
    backup: options.BackupId,
    *,
    from_: options.From,
    database: options.Database = None,
    cluster: options.Cluster = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    trusted_key: trust_options.TrustedKeys = None,
    unsigned: trust_options.Unsigned = False,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300,
) -> None:
    """Remove the legal hold from a backup."""
    from pipeline.catalog.find import BackupSelector

    trust = trust_options.make_trust(trusted_key)
    wanted = BackupSelector(backup, cluster, database, trust=trust, unsigned=unsigned)
    _hold(wanted, from_, store_option, give_up_after, held=False, json=json, quiet=quiet)


@app.command(
    "list",
    examples=[
        "pgstow hold list --from s3://bucket/prefix",
        "pgstow hold list --from s3://bucket/prefix --database shop --json",
    ],
)
def list_(
    *,
    from_: options.From,
    database: options.Database = None,
    cluster: options.Cluster = None,
    json: options.Json = False,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300,
) -> None:
    """List the backups under a legal hold.

    pgstow also counts the backups whose holds the credentials may not read.
    """
    from pipeline.prune.hold import find_holds

    with closing(options.open_store(from_, store_option, give_up_after)) as store:
        locks = find_holds(store, cluster, database)
    if json:
        display.print_json(
            [{**dataclasses.asdict(ref), "held": lock.held, "needs": lock.needs} for ref, lock in locks.items()]
        )
        return
    untold = [lock for lock in locks.values() if lock.held is None]
    for ref, lock in locks.items():
        if lock.held:
            print(display.one_line(f"{ref.cluster}/{ref.database} {ref.backup_id}"))
    if untold:
        print(
            f"The legal holds of {counted(len(untold), 'backup')} can't be read: the credentials need {' and '.join(untold[0].needs)}."
        )
    elif not locks:
        print(f"No backup in {store.url} is under a legal hold.")


def _hold(
    wanted: "BackupSelector",
    url: str,
    store_option: list[str] | None,
    give_up_after: float,
    *,
    held: bool,
    json: bool,
    quiet: bool,
) -> None:
    from pipeline.prune.hold import hold

    with (
        closing(options.open_store(url, store_option, give_up_after, quiet=quiet)) as store,
        if_stopped("some objects of the backup may be changed already; run the command again for the rest"),
        show_progress(quiet=quiet or json) as notify,
    ):
        objects = hold(wanted, store, notify, held=held)
    meant, *members = objects
    name = display.one_line(f"{meant.cluster}/{meant.database} {meant.backup_id}")
    also = f" and its {counted(len(members), 'member')}" if members else ""
    total = sum(objects.values())
    state = "now under a legal hold" if held else "no longer under a legal hold"
    done = f"{name}{also}: {counted(total, 'object')} {'is' if total == 1 else 'are'} {state}."
    with result_of(done):
        if json:
            display.print_json(
                [{**dataclasses.asdict(ref), "objects": number, "held": held} for ref, number in objects.items()]
            )
        else:
            print(done)
