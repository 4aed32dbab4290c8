"""``pgstow chain``."""

import dataclasses
from contextlib import closing
from typing import TYPE_CHECKING

import typer

from cli import display, options, tables, trust_options
from cli.command import Commands
from cli.errors import ExitCode
from cli.progress import show_progress
from cli.tables import Column
from pipeline.counting import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.catalog.chain import Chains
    from pipeline.trust.chain import Chain

app = Commands()


@app.command(
    "chain",
    examples=[
        "pgstow chain --from s3://bucket/prefix --trusted-key signing.pub",
        "pgstow chain --from s3://bucket/prefix --trusted-key signing.pub --json",
    ],
)
def chain(
    *,
    from_: options.From,
    database: options.Database = None,
    cluster: options.Cluster = None,
    trusted_key: trust_options.TrustedKeys = None,
    expect_head: trust_options.ExpectHead = None,
    json: options.Json = False,
    store_option: options.StoreOptions = None,
    give_up_after: options.GiveUpAfter = 300,
) -> None:
    """Check the chains of signed backups: find backups that were removed, replaced or made up.

    The exit code is 0 only if nothing is wrong.
    """
    from pipeline.catalog.chain import read_chains
    from pipeline.errors import InvalidRequest
    from pipeline.events import Started

    trust = trust_options.make_trust(trusted_key)
    if trust is None:
        raise InvalidRequest("A chain consists of signed backups: give --trusted-key.")
    with (
        closing(options.open_store(from_, store_option, give_up_after)) as store,
        show_progress(quiet=json) as notify,
    ):
        notify(Started("Reading signatures and manifests"))
        found = read_chains(store, cluster, database, trust, expect_head or ())
    if json:
        display.print_json(
            {
                "chains": [_document(one) for one in found.chains],
                "findings": [dataclasses.asdict(one) for one in found.findings],
            }
        )
    else:
        _print(found, store.url)
    if found.findings:
        raise typer.Exit(ExitCode.DAMAGED)


def _document(chain: "Chain") -> dict[str, object]:
    head = {
        "backup_id": chain.head.backup_id,
        "sequence": chain.head.link.sequence,
        "statement_sha256": chain.head.sha256,
    }
    names = {"cluster": chain.cluster, "database": chain.database, "writer": chain.writer}
    counts = {"backups": chain.backups, "removed": chain.removed, "unfinished": chain.unfinished}
    return {**names, **counts, "head": head}


def _print(found: "Chains", url: str) -> None:
    def each(chains: "Sequence[Chain]", attribute: str) -> list[str]:
        return [display.literal(str(getattr(one, attribute))) for one in chains]

    if found.chains:
        chains = found.chains
        tables.print_table(
            [
                Column("CLUSTER", each(chains, "cluster")),
                Column("DATABASE", each(chains, "database")),
                Column("WRITER", each(chains, "writer")),
                Column("BACKUPS", each(chains, "backups"), right=True),
                Column("REMOVED", each(chains, "removed"), right=True),
                Column("LAST BACKUP", [one.head.backup_id for one in chains]),
                Column("HEAD", [one.head.sha256 for one in chains]),
            ]
        )
    else:
        print(f"No signed backups in {url}.")
    for finding in found.findings:
        place = f"{finding.cluster}/{finding.database}: " if finding.cluster else ""
        display.console().print(
            f"[red]{finding.fault}[/red]: {display.literal(place + finding.sentence)}", soft_wrap=True
        )
    for chain in found.chains:
        if chain.unfinished:
            display.console().print(display.literal(_describe_unfinished(chain)), soft_wrap=True)
    if found.chains and not found.findings:
        print("Nothing is wrong with the chains.")


def _describe_unfinished(chain: "Chain") -> str:
    """Return a note on the backups of a chain that have a tombstone, and are in the store all the same."""
    are, have = ("is", "it has a tombstone") if chain.unfinished == 1 else ("are", "they have tombstones")
    stay = f"{counted(chain.unfinished, 'backup')} {are} still in the store, although {have}"
    advice = "Run pgstow prune again: until then, nobody would notice the removal"
    return f"Note: {chain.cluster}/{chain.database}, {chain.writer}: {stay}. {advice}."
