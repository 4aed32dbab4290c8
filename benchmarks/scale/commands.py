"""The command lines of the benchmarks of scale: lines of bash, with their settings in the environment, as in :mod:`benchmarks.sides`.

``FOLDER`` is a store in a folder. ``KEEP`` is the number of backups of each database to keep. ``CONFIG`` is a pgstow.toml.
``PUBLIC_KEY`` is the file of a trusted key.
"""

from collections.abc import Mapping

from benchmarks import sides
from benchmarks.sides import URL

BACKUP = sides.PGSTOW.command
STOCK_BACKUP = sides.DUMP_ALONE.command
RESTORE = sides.RESTORE.command
STOCK_RESTORE = sides.FLOOR.command
RESTORE_ONE = sides.RESTORE_ONE.command
TEMPLATE = 'pgstow backup "$DATABASE" --to "$FOLDER" --create-store --jobs $JOBS --spool-dir "$STAGE"'
LIST = 'pgstow list --from "$FOLDER"'
PLAN = 'pgstow prune --from "$FOLDER" --keep-last $KEEP --dry-run'
PRUNE = 'pgstow prune --from "$FOLDER" --keep-last $KEEP --yes'
PRUNE_S3 = f"pgstow prune --from {URL} --keep-last $KEEP --yes"
RUN = f'STORE={URL} pgstow run --config "$CONFIG"'
AUDIT = 'pgstow audit --from s3://bench --trusted-key "$PUBLIC_KEY" --fail-on never'
AUDIT_CLUSTER = f'{AUDIT} --cluster "$CLUSTER"'
STATS = 'pgstow stats --from s3://bench --trusted-key "$PUBLIC_KEY"'

ALL: Mapping[str, str] = {
    "backup": BACKUP,
    "backup, stock": STOCK_BACKUP,
    "restore": RESTORE,
    "restore, stock": STOCK_RESTORE,
    "restore of one table": RESTORE_ONE,
    "list": LIST,
    "prune --dry-run": PLAN,
    "prune --yes, folder": PRUNE,
    "prune --yes, S3": PRUNE_S3,
    "run": RUN,
    "audit": AUDIT,
    "stats": STATS,
}
"""All commands that are measured, by the words that stand above them in the report."""
