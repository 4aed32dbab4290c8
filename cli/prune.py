"""``pgstow prune``."""

import dataclasses
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from cli import display, options, tables, trust_options
from cli import retention_options as retention
from cli.command import Commands
from cli.errors import UNFINISHED_REMOVAL, ExitCode, if_stopped, result_of
from cli.progress import show_progress
from cli.tables import Column
from pipeline.counting import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.prune.prune import Pruned
    from pipeline.prune.retention import Decision

KEEP = "What to keep, for each database and kind of backup"


app = Commands()


@app.command(
    "prune",
    examples=[
        "pgstow prune --from s3://bucket/prefix --keep-daily 14 --dry-run",
        "pgstow prune --from s3://bucket/prefix --keep-daily 14 --keep-monthly 12 -y",
    ],
)
def prune(
    *,
    from_: options.From,
    database: options.Database = None,
    cluster: options.Cluster = None,
    dry_run: retention.DryRun = False,
    yes: retention.Yes = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    keep_last: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Keep the newest N backups", rich_help_panel=KEEP),
    ] = 0,
    keep_hourly: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Keep the newest backup of each of the last N hours that have one",
            rich_help_panel=KEEP,
        ),
    ] = 0,
    keep_daily: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Keep the newest backup of each of the last N days (in UTC) that have one",
            rich_help_panel=KEEP,
        ),
    ] = 0,
    keep_weekly: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Keep the newest backup of each of the last N weeks (from Monday) that have one",
            rich_help_panel=KEEP,
        ),
    ] = 0,
    keep_monthly: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Keep the newest backup of each of the last N months that have one",
            rich_help_panel=KEEP,
        ),
    ] = 0,
    keep_yearly: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Keep the newest backup of each of the last N years that have one",
            rich_help_panel=KEEP,
        ),
    ] = 0,
    keep_within: Annotated[
        timedelta,
        typer.Option(
            metavar="DURATION",
            parser=retention.parse_duration,
            help="Keep the newest backup, and all backups made within DURATION before it (for example 36h, 30d or 8w)",
            show_default=False,
            rich_help_panel=KEEP,
        ),
    ] = timedelta(),
    keep_tag: Annotated[
        list[str] | None,
        typer.Option(metavar="TAG", help="Keep all backups with this tag; can be repeated", rich_help_panel=KEEP),
    ] = None,
    only_verified: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL",
            help="Let the rules count only backups whose latest attestation (record of a verification) says good, at this level or above: "
            "objects, bytes, archive or restore",
            rich_help_panel=KEEP,
        ),
    ] = None,
    trusted_key: trust_options.TrustedKeys = None,
    unsigned: Annotated[
        bool,
        typer.Option(
            "--unsigned",
            help="Let the rules count backups without a signature, too, apart from the signed ones",
            rich_help_panel=trust_options.PANEL,
        ),
    ] = False,
    sign_with: trust_options.SignWith = None,
    sign_passphrase_file: trust_options.SignPassphrase = None,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300,
) -> None:
    """Remove the backups that no rule keeps.

    pgstow first lists the backups with the reasons to keep or drop them, and asks before it removes any.
    """
    from pipeline.catalog.attestation import Level
    from pipeline.errors import InvalidRequest
    from pipeline.prune.facts import Known, Signatures
    from pipeline.prune.policy import Policy
    from pipeline.prune.prune import PruneRequest, plan
    from pipeline.prune.prune import prune as prune_backups

    if only_verified is not None and only_verified not in list(Level):
        raise typer.BadParameter(f"{only_verified!r} is none of {', '.join(Level)}", param_hint="--only-verified")
    policy = Policy(
        keep_last=keep_last,
        keep_hourly=keep_hourly,
        keep_daily=keep_daily,
        keep_weekly=keep_weekly,
        keep_monthly=keep_monthly,
        keep_yearly=keep_yearly,
        keep_within=keep_within,
        keep_tagged=frozenset(keep_tag or ()),
        only_verified=None if only_verified is None else Level(only_verified),
    )
    if policy.is_empty:
        raise InvalidRequest("Say what to keep, such as --keep-daily 7: without a rule everything is kept.")
    signatures = Signatures(trust_options.make_trust(trusted_key), unsigned)
    signer = trust_options.make_signer(sign_with, sign_passphrase_file)
    if (signer or unsigned) and not signatures.trust:
        raise InvalidRequest("--sign-with and --unsigned need --trusted-key.")
    request = PruneRequest(policy, cluster, database, signatures=signatures, signer=signer)
    pruned, known = None, Known()
    with closing(options.open_store(from_, store_option, give_up_after, quiet=quiet)) as store:
        with show_progress(quiet=quiet or json) as notify:
            decisions = plan(request, store, notify, datetime.now(UTC), known)
        if not json:
            _print_plan(decisions)
        dropped = sum(not one.keep for one in decisions)
        question = f"Remove {dropped:,} of {counted(len(decisions), 'backup')} from {store.url}?"
        if dropped and retention.is_confirmed(question, yes=yes, dry_run=dry_run, json=json):
            with if_stopped(UNFINISHED_REMOVAL), show_progress(quiet=quiet or json) as notify:
                pruned = prune_backups(request, decisions, store, notify, datetime.now(UTC), known)
    with result_of(_describe_result(pruned)) if pruned is not None else nullcontext():
        if json:
            display.print_json(_document(decisions, pruned))
        elif pruned is not None:
            _print_result(pruned)
        elif not dropped:
            print("There is nothing to remove.")
    if any(one.doubtful for one in decisions):
        raise typer.Exit(ExitCode.DAMAGED)


def _print_plan(decisions: "Sequence[Decision]") -> None:
    moments = [f"{one.snapshot_at:%Y-%m-%d %H:%M}Z" if one.snapshot_at else "" for one in decisions]
    tables.print_backups(
        [one.ref for one in decisions],
        [
            Column("DATA OF", moments, spare=1),
            Column("", ["partial" if one.partial else "" for one in decisions]),
            Column("", ["keep" if one.keep else "[red]drop[/red]" for one in decisions]),
            Column("WHY", [display.literal(", ".join(one.reasons)) for one in decisions], wraps=True),
        ],
    )


def _document(decisions: "Sequence[Decision]", pruned: "Pruned | None") -> dict[str, object]:
    """Return the plan and the result in JSON's types. The result is None if nothing was removed."""
    return {
        "plan": [
            {
                **dataclasses.asdict(one.ref),
                "snapshot_at": one.snapshot_at and f"{one.snapshot_at:%Y-%m-%dT%H:%M:%S.%fZ}",
                "partial": one.partial,
                "keep": one.keep,
                "reasons": one.reasons,
            }
            for one in decisions
        ],
        "removed": pruned
        and {
            "backups": [ref.backup_id for ref in pruned.backups],
            "spared": [ref.backup_id for ref in pruned.spared],
            **display.removal_document(pruned.removed),
        },
    }


def _describe_result(pruned: "Pruned") -> str:
    return f"Removed {counted(len(pruned.backups), 'backup')}: {display.describe_removal(pruned.removed)}."


def _print_result(pruned: "Pruned") -> None:
    print(_describe_result(pruned))
    if pruned.spared:
        names = ", ".join(ref.backup_id for ref in pruned.spared[:5])
        stay = "stays" if len(pruned.spared) == 1 else "stay"
        print(
            f"{counted(len(pruned.spared), 'backup')} {stay} because of a lock or a change in the store since the plan: {names}."
        )
