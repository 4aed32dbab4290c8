"""The sides: command lines of pgstow and of its alternatives, as lines of bash with their settings in the environment.

``DATABASE``, ``ADMIN`` and ``TARGET`` are conninfos. ``TARGET_NAME`` is the name of the target database, which doesn't exist yet.
``REMOTE`` is the side's own place in the bucket, and ``STAGE`` its own empty directory. ``LOCAL`` is a folder with two earlier
dumps: an uncompressed dump in the directory format, and the compressed stream of another dump.
"""

import shutil
from dataclasses import dataclass
from typing import Self

# The scripts don't use zstd's --rm, which took a little more CPU time and no less wall time. They use --no-sync, since the local dump
# isn't the backup. Both choices favour the scripts.


@dataclass(frozen=True, slots=True)
class Side:
    """A command that is measured."""

    name: str
    command: str
    needs: tuple[str, ...] = ()
    """Programs that this machine may lack."""
    least_major: int = 0
    """The oldest major version of pg_dump that has the command's options."""
    before: str = ""
    """A command to run before the measured one, such as to make a repository."""
    reads: Self | None = None
    """The backup that the side reads from the store; None if the side reads none."""

    def why_not(self, major: int) -> str | None:
        """Return why the side can't run on this machine with pg_dump of the major version; None if it can."""
        missing = [program for program in self.needs if not shutil.which(program)]
        if missing:
            return f"{' and '.join(missing)} not found"
        return f"needs pg_dump {self.least_major} or newer" if major < self.least_major else None


URL = '"s3://$BUCKET/$REMOTE?endpoint=$AWS_ENDPOINT_URL&allow_http=true&path_style=true&region=$AWS_DEFAULT_REGION"'
"""The place of the side in the bucket, as a store's URL."""
_FROM_BUCKET = f'--from {URL} --jobs $JOBS --spool-dir "$STAGE"'
_TO_BUCKET = f'--to {URL} --jobs $JOBS --spool-dir "$STAGE"'
_CREATE = 'createdb --maintenance-db="$ADMIN" "$TARGET_NAME"'

PGSTOW = Side("pgstow", f'pgstow backup "$DATABASE" {_TO_BUCKET} --level $LEVEL')
WHOLE = Side("pgstow --split-tables never", f"{PGSTOW.command} --split-tables never")
SEALED = Side(
    "pgstow --recipient", f"{PGSTOW.command} --recipient age1dt69s6xac9nclfrc32987jvn42phe07g89ahn865arzlk95aj99qtqzxdf"
)
"""Nobody has the identity: no side restores this backup."""
AUTO = Side("pgstow --level auto", f'pgstow backup "$DATABASE" {_TO_BUCKET} --level auto')
PIPE = Side(
    "pg_dump -Fc | zstd | aws s3 cp",
    'pg_dump -Fc -Z0 "$DATABASE" | zstd -q -$LEVEL -T0 | aws s3 cp --quiet - "s3://$BUCKET/$REMOTE/dump.zst"',
    needs=("zstd", "aws"),
)
SEQUENTIAL = Side(
    "pg_dump -Fd, zstd, aws s3 cp",
    'pg_dump -Fd -j $JOBS -Z0 --no-sync -f "$STAGE/dump" "$DATABASE" && mkdir "$STAGE/packed" && '
    'find "$STAGE/dump" -type f -print0 | xargs -0 -P $JOBS -n 100 zstd -q -$LEVEL -T0 --output-dir-flat "$STAGE/packed" && '
    'aws s3 cp --recursive --quiet "$STAGE/packed" "s3://$BUCKET/$REMOTE"',
    needs=("zstd", "aws"),
)
COMPRESSING = Side(
    "pg_dump -Fd --compress=zstd, aws s3 cp",
    'pg_dump -Fd -j $JOBS --compress=zstd:$LEVEL --no-sync -f "$STAGE/dump" "$DATABASE" && '
    'aws s3 cp --recursive --quiet "$STAGE/dump" "s3://$BUCKET/$REMOTE"',
    needs=("aws",),
    least_major=16,
)
_RESTIC = 'export RESTIC_REPOSITORY="s3:$AWS_ENDPOINT_URL/$BUCKET/$REMOTE" RESTIC_PASSWORD=bench && '
RESTIC = Side(
    "pg_dump -Fc | restic",
    f'{_RESTIC}pg_dump -Fc -Z0 "$DATABASE" | restic backup --quiet --stdin --stdin-filename dump',
    needs=("restic",),
    before=f"{_RESTIC}restic init --quiet --repository-version 2",
)
# The options are from https://github.com/orgrim/pg_back, pg_back.conf.
PG_BACK = Side(
    "pg_back",
    "printf '%s\\n' \"backup_directory = $STAGE/dump\" 'format = directory' \"parallel_backup_jobs = $JOBS\" "
    '"pg_dump_options = --compress=zstd:$LEVEL" \'upload = s3\' "s3_region = $AWS_DEFAULT_REGION" "s3_bucket = $BUCKET" '
    "\"s3_endpoint = $AWS_ENDPOINT_URL\" 's3_force_path = true' 's3_tls = false' > \"$STAGE/pg_back.conf\" && "
    'pg_back -c "$STAGE/pg_back.conf" -d "$ADMIN" bench',
    needs=("pg_back",),
    least_major=16,
)
# The options are from https://docs.greenmask.io/latest/configuration.
_GREENMASK = (
    "printf '%s\\n' 'common:' \"  pg_bin_path: $(dirname \"$(command -v pg_dump)\")\" \"  tmp_dir: $STAGE\" 'storage:' '  type: s3' "
    '\'  s3:\' "    endpoint: $AWS_ENDPOINT_URL" "    bucket: $BUCKET" "    prefix: $REMOTE" "    region: $AWS_DEFAULT_REGION" '
    '\'    force_path_style: true\' > "$STAGE/greenmask.yml" && greenmask --config "$STAGE/greenmask.yml" '
)
GREENMASK = Side("Greenmask", f'{_GREENMASK}dump --jobs $JOBS --pgzip --dbname "$DATABASE"', needs=("greenmask",))

DUMP_ALONE = Side("pg_dump alone", 'pg_dump -Fd -j $JOBS -Z0 --no-sync -f "$STAGE/dump" "$DATABASE"')
COMPRESS_ALONE = Side(
    "zstd alone",
    'find "$LOCAL/dump" -type f -print0 | xargs -0 -P $JOBS -n 100 zstd -q -$LEVEL -T0 -c > /dev/null',
    needs=("zstd",),
)
UPLOAD_ALONE = Side(
    "upload alone", 'aws s3 cp --quiet "$LOCAL/dump.zst" "s3://$BUCKET/$REMOTE/dump.zst"', needs=("aws",)
)
"""A single file. It saves 2,000 round trips."""

RESTORE = Side(
    "pgstow restore", f'pgstow restore latest {_FROM_BUCKET} --database bench --into "$TARGET" --create', reads=PGSTOW
)
SPLIT = Side("pgstow restore --split-tables auto", f"{RESTORE.command} --split-tables auto", reads=PGSTOW)
UNSPLIT = Side("pgstow restore --split-tables never", f"{RESTORE.command} --split-tables never", reads=PGSTOW)
PROOF = Side(
    "pgstow verify --level restore",
    f'pgstow verify latest {_FROM_BUCKET} --level restore --scratch "$ADMIN" --no-attest',
    reads=PGSTOW,
)
FLOOR = Side("pg_restore, local files", f'{_CREATE} && pg_restore -j $JOBS -d "$TARGET" "$LOCAL/dump"')
PIPED_RESTORE = Side(
    "aws s3 cp | zstd -d | pg_restore",
    f'{_CREATE} && aws s3 cp --quiet "s3://$BUCKET/$REMOTE/dump.zst" - | zstd -q -d | pg_restore -d "$TARGET"',
    needs=("zstd", "aws"),
    reads=PIPE,
)
SEQUENTIAL_RESTORE = Side(
    "aws s3 cp, zstd -d, pg_restore",
    'aws s3 cp --recursive --quiet "s3://$BUCKET/$REMOTE" "$STAGE/packed" && mkdir "$STAGE/dump" && '
    'find "$STAGE/packed" -type f -print0 | xargs -0 -P $JOBS -n 100 zstd -q -d --output-dir-flat "$STAGE/dump" && '
    f'{_CREATE} && pg_restore -j $JOBS -d "$TARGET" "$STAGE/dump"',
    needs=("zstd", "aws"),
    reads=SEQUENTIAL,
)
COMPRESSED_RESTORE = Side(
    "aws s3 cp, pg_restore of zstd",
    'aws s3 cp --recursive --quiet "s3://$BUCKET/$REMOTE" "$STAGE/dump" && '
    f'{_CREATE} && pg_restore -j $JOBS -d "$TARGET" "$STAGE/dump"',
    needs=("aws",),
    least_major=16,
    reads=COMPRESSING,
)
RESTIC_RESTORE = Side(
    "restic dump | pg_restore",
    f'{_RESTIC}{_CREATE} && restic dump --quiet latest /dump | pg_restore -d "$TARGET"',
    needs=("restic",),
    reads=RESTIC,
)
GREENMASK_RESTORE = Side(
    "Greenmask restore",
    f'{_CREATE} && {_GREENMASK}restore latest --jobs $JOBS --pgzip --dbname "$TARGET"',
    needs=("greenmask",),
    reads=GREENMASK,
)
RESTORE_ONE = Side(
    "pgstow restore -t",
    f'pgstow restore latest --from {URL} --into "$TARGET" --create -t "$TABLE" --spool-dir "$STAGE"',
    reads=PGSTOW,
)

_GLOBALS = 'pg_dumpall --globals-only -d "$ADMIN" | zstd -q -$LEVEL -T0 -o "$STAGE/globals.zst" && '
_NAMES = 'psql -d "$ADMIN" -Atc "SELECT datname FROM pg_database WHERE datallowconn" | while read -r name; do '
_DUMP = 'pg_dump -Fc -Z0 "$ADMIN dbname=$name" | zstd -q -$LEVEL -T0 -o "$STAGE/$name.zst"'

SERVER = Side(
    "pgstow --all-databases",
    f'pgstow backup "$ADMIN" --all-databases --databases-at-once 4 {_TO_BUCKET} --level $LEVEL',
)
"""A backup of a whole server: its many small databases, postgres, template1 and the roles."""
ONE_BY_ONE = Side(
    "pg_dumpall -g, then for each pg_dump | zstd, aws s3 cp",
    f'{_GLOBALS}aws s3 cp --quiet "$STAGE/globals.zst" "s3://$BUCKET/$REMOTE/globals.zst" && {_NAMES}{_DUMP} && '
    'aws s3 cp --quiet "$STAGE/$name.zst" "s3://$BUCKET/$REMOTE/$name.zst" || exit 1; done',
    needs=("zstd", "aws"),
)
ALL_AT_ONCE = Side(
    "pg_dumpall -g, for each pg_dump | zstd, then one aws s3 cp",
    f'{_GLOBALS}{_NAMES}{_DUMP} || exit 1; done && aws s3 cp --recursive --quiet "$STAGE" "s3://$BUCKET/$REMOTE"',
    needs=("zstd", "aws"),
)
"""The AWS CLI starts only once, which saves most of the time of ``ONE_BY_ONE``. But all dumps stay on local disk, and nothing is stored
if the last dump fails."""

INTERPRETER = Side("python -c pass", "python -c pass")
VERSION = Side("pgstow --version", "pgstow --version")
HELP = Side("pgstow backup --help", "pgstow backup --help")

PREPARE = (
    'pg_dump -Fd -j $JOBS -Z0 --no-sync -f "$LOCAL/dump" "$DATABASE" && '
    'pg_dump -Fc -Z0 "$DATABASE" | zstd -q -$LEVEL -T0 -o "$LOCAL/dump.zst"'
)
