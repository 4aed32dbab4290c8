"""The command lines of the sides: lines of bash, with their settings in the environment. A side is pgstow or an alternative.

``DATABASE``, ``ADMIN`` and ``TARGET`` are conninfos. ``TARGET_NAME`` is the name of the target database, which doesn't exist yet.
``REMOTE`` is the side's own place in the bucket, and ``STAGE`` its own empty directory. ``LOCAL`` is a folder with two earlier
dumps: an uncompressed dump in the directory format, and the compressed stream of another dump.
"""

from collections.abc import Mapping

# The scripts don't use zstd's --rm, which took a little more CPU time and no less wall time. They use --no-sync, since the local dump
# isn't the backup. Both choices favour the scripts.

PGSTOW = "pgstow"
SEQUENTIAL = "pg_dump -Fd, zstd, aws s3 cp"
PIPE = "pg_dump -Fc | zstd | aws s3 cp"
PROOF = "pgstow verify --level restore"
FLOOR = "pg_restore, local files"
SCRIPTED_RESTORE = "aws s3 cp, zstd -d, pg_restore"
ONE_BY_ONE = "pg_dumpall -g, then for each pg_dump | zstd, aws s3 cp"
ALL_AT_ONCE = "pg_dumpall -g, for each pg_dump | zstd, then one aws s3 cp"

DUMP_ALONE = "pg_dump alone"
COMPRESS_ALONE = "zstd alone"
UPLOAD_ALONE = "upload alone"

URL = '"s3://$BUCKET/$REMOTE?endpoint=$AWS_ENDPOINT_URL&allow_http=true&path_style=true&region=$AWS_DEFAULT_REGION"'
"""The place of the side in the bucket, as a store's URL."""

BACKUPS: Mapping[str, str] = {
    PGSTOW: f'pgstow backup "$DATABASE" --to {URL} --jobs $JOBS --spool-dir "$STAGE"',
    SEQUENTIAL: (
        'pg_dump -Fd -j $JOBS -Z0 --no-sync -f "$STAGE/dump" "$DATABASE" && mkdir "$STAGE/packed" && '
        'find "$STAGE/dump" -type f -print0 | xargs -0 -P $JOBS -n 100 zstd -q -$LEVEL -T0 --output-dir-flat "$STAGE/packed" && '
        'aws s3 cp --recursive --quiet "$STAGE/packed" "s3://$BUCKET/$REMOTE"'
    ),
    PIPE: 'pg_dump -Fc -Z0 "$DATABASE" | zstd -q -$LEVEL -T0 | aws s3 cp --quiet - "s3://$BUCKET/$REMOTE/dump.zst"',
}

STAGES: Mapping[str, str] = {
    DUMP_ALONE: 'pg_dump -Fd -j $JOBS -Z0 --no-sync -f "$STAGE/dump" "$DATABASE"',
    COMPRESS_ALONE: 'find "$LOCAL/dump" -type f -print0 | xargs -0 -P $JOBS -n 100 zstd -q -$LEVEL -T0 -c > /dev/null',
    UPLOAD_ALONE: 'aws s3 cp --quiet "$LOCAL/dump.zst" "s3://$BUCKET/$REMOTE/dump.zst"',
}
"""The stages of a backup, each by itself. The upload is a single file. It saves 2,000 round trips."""

RESTORES: Mapping[str, str] = {
    PGSTOW: (
        f'pgstow restore latest --from {URL} --database bench --into "$TARGET" --create --jobs $JOBS --spool-dir "$STAGE"'
    ),
    PROOF: f'pgstow verify latest --from {URL} --level restore --scratch "$ADMIN" --no-attest --jobs $JOBS --spool-dir "$STAGE"',
    SCRIPTED_RESTORE: (
        'aws s3 cp --recursive --quiet "s3://$BUCKET/$REMOTE" "$STAGE/packed" && mkdir "$STAGE/dump" && '
        'find "$STAGE/packed" -type f -print0 | xargs -0 -P $JOBS -n 100 zstd -q -d --output-dir-flat "$STAGE/dump" && '
        'createdb --maintenance-db="$ADMIN" "$TARGET_NAME" && pg_restore -j $JOBS -d "$TARGET" "$STAGE/dump"'
    ),
    FLOOR: 'createdb --maintenance-db="$ADMIN" "$TARGET_NAME" && pg_restore -j $JOBS -d "$TARGET" "$LOCAL/dump"',
}

_GLOBALS = 'pg_dumpall --globals-only -d "$ADMIN" | zstd -q -$LEVEL -T0 -o "$STAGE/globals.zst" && '
_NAMES = 'psql -d "$ADMIN" -Atc "SELECT datname FROM pg_database WHERE datallowconn" | while read -r name; do '
_DUMP = 'pg_dump -Fc -Z0 "$ADMIN dbname=$name" | zstd -q -$LEVEL -T0 -o "$STAGE/$name.zst"'

CLUSTER: Mapping[str, str] = {
    PGSTOW: f'pgstow backup "$ADMIN" --all-databases --databases-at-once 4 --to {URL} --jobs $JOBS --spool-dir "$STAGE"',
    ONE_BY_ONE: (
        f'{_GLOBALS}aws s3 cp --quiet "$STAGE/globals.zst" "s3://$BUCKET/$REMOTE/globals.zst" && {_NAMES}{_DUMP} && '
        'aws s3 cp --quiet "$STAGE/$name.zst" "s3://$BUCKET/$REMOTE/$name.zst" || exit 1; done'
    ),
    ALL_AT_ONCE: f'{_GLOBALS}{_NAMES}{_DUMP} || exit 1; done && aws s3 cp --recursive --quiet "$STAGE" "s3://$BUCKET/$REMOTE"',
}
"""Backups of a whole server: its many small databases, postgres, template1 and the roles. ``ALL_AT_ONCE`` starts the AWS CLI only once, which
saves most of the time of ``ONE_BY_ONE``. But it keeps all dumps on local disk, and stores nothing if the last dump fails."""

BACKUP_OF: Mapping[str, str] = {PGSTOW: PGSTOW, PROOF: PGSTOW, SCRIPTED_RESTORE: SEQUENTIAL, FLOOR: SEQUENTIAL}
"""For each restore, the backup that it reads. ``FLOOR`` reads a local dump instead of a backup."""

PREPARE = (
    'pg_dump -Fd -j $JOBS -Z0 --no-sync -f "$LOCAL/dump" "$DATABASE" && '
    'pg_dump -Fc -Z0 "$DATABASE" | zstd -q -$LEVEL -T0 -o "$LOCAL/dump.zst"'
)
