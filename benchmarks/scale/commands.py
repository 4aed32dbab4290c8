"""The command lines of the benchmarks of scale: lines of bash, with their settings in the environment, as in :mod:`benchmarks.sides`.

``FOLDER`` is a store in a folder. ``KEEP`` is the number of backups of each database to keep. ``CONFIG`` is a pgstow.toml.
"""

from collections.abc import Mapping

from benchmarks.sides import BACKUPS, DUMP_ALONE, FLOOR, PGSTOW, RESTORES, STAGES, URL

BACKUP = BACKUPS[PGSTOW]
STOCK_BACKUP = STAGES[DUMP_ALONE]
RESTORE = RESTORES[PGSTOW]
STOCK_RESTORE = RESTORES[FLOOR]
RESTORE_ONE = f'pgstow restore latest --from {URL} --into "$TARGET" --create -t "$TABLE" --spool-dir "$STAGE"'
TEMPLATE = 'pgstow backup "$DATABASE" --to "$FOLDER" --create-store --jobs $JOBS --spool-dir "$STAGE"'
LIST = 'pgstow list --from "$FOLDER"'
PLAN = 'pgstow prune --from "$FOLDER" --keep-last $KEEP --dry-run'
PRUNE = 'pgstow prune --from "$FOLDER" --keep-last $KEEP --yes'
PRUNE_S3 = f"pgstow prune --from {URL} --keep-last $KEEP --yes"
RUN = f'STORE={URL} pgstow run --config "$CONFIG"'

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
}
"""All commands that are measured, by the words that stand above them in the report."""
