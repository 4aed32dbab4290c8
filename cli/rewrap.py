"""``pgstow rewrap``."""

from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cli import display, key_options, options, trust_options
from cli import retention_options as retention
from cli.command import Commands
from cli.errors import exit_code_of, print_error, result_of
from cli.progress import show_progress
from pipeline.counting import counted

if TYPE_CHECKING:
    from storage_backends import StorageBackend

app = Commands()


@app.command(
    "rewrap",
    examples=[
        "pgstow rewrap latest --from /backups --identity old.key --recipient age1new",
        "pgstow rewrap --all --from /backups --identity old.key --recipients-file new",
    ],
)
def rewrap(
    backup: Annotated[
        str | None, typer.Argument(metavar="BACKUP", help="The backup's ID, the beginning of its ID, or 'latest'")
    ] = None,
    *,
    from_: options.From,
    all_: Annotated[
        bool, typer.Option("--all", help="All sealed backups in the store, or of --cluster and --database")
    ] = False,
    database: options.Database = None,
    cluster: options.Cluster = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    recipient: key_options.RecipientTexts = None,
    recipients_file: key_options.RecipientsFiles = None,
    identity: key_options.IdentityFiles = None,
    identity_command: key_options.IdentityCommand = None,
    trusted_key: trust_options.TrustedKeys = None,
    unsigned: trust_options.Unsigned = False,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300,
    retain_days: retention.RetainDays = None,
    retain_until: retention.RetainUntil = None,
) -> None:
    """Give sealed backups to further recipients. The command needs no database, and touches no data.

    A new key object is locked as long as its backup, and gets the backup's legal hold.

    It revokes nothing: earlier recipients can still open the backups.
    """
    from pipeline.catalog.find import BackupSelector
    from pipeline.errors import InvalidRequest
    from pipeline.prune.rewrap import find_all, find_one
    from pipeline.prune.rewrap import rewrap as rewrap_backups
    from pipeline.stages.upload import upload

    if (backup is None) != all_:
        raise InvalidRequest("Name a BACKUP, or give --all, but not both.")
    recipients = key_options.read_recipients(recipient, recipients_file)
    if recipients is None:
        raise InvalidRequest("Name the new recipients: give --recipient or --recipients-file.")
    keys = key_options.read_keys(identity, identity_command, quiet=quiet)
    trust = trust_options.make_trust(trusted_key)
    lock = retention.lock_options(retain_days, retain_until)

    def open_store(*more: str) -> "StorageBackend":
        return options.open_store(from_, [*(store_option or ()), *more], give_up_after, quiet=quiet)

    def put_locked(key: str, body: bytes | bytearray, until: datetime) -> None:
        with closing(open_store(*retention.lock_options(None, until))) as locking:
            upload(locking, key, body)

    store = open_store(*lock)
    with closing(store), show_progress(quiet=quiet or json) as notify:
        if backup is None:
            selected = find_all(store, cluster, database, notify, datetime.now(UTC), trust)
        else:
            wanted = BackupSelector(backup, cluster, database, trust=trust, unsigned=unsigned)
            selected = find_one(wanted, store, notify)
        done = rewrap_backups(selected, recipients, keys, store, put_locked, notify)
    for ref, error in done.failed.items():
        print_error(f"{ref.cluster}/{ref.database}: {error}")
    told = f"{counted(len(done.keys), 'backup')} can now be opened by further recipients."
    with result_of(told):
        if json:
            made = [{**asdict(ref), "key": key, "problem": None} for ref, key in done.keys.items()]
            failed = [{**asdict(ref), "key": None, "problem": str(error)} for ref, error in done.failed.items()]
            display.print_json([*made, *failed])
        else:
            print(told)
    if done.failed:
        raise typer.Exit(min(map(exit_code_of, done.failed.values())))
