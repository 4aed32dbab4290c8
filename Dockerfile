# pgstow and PostgreSQL's client programs, run by a user without rights. Only /spool is written to.
#
#   docker build --build-arg POSTGRESQL_MAJOR=17 --tag pgstow:0.1.0 .
#   docker run --rm --read-only --tmpfs /spool:uid=10001,size=1g -e PGSTOW_STORE -e PGHOST -e PGUSER -e PGPASSWORD -e PGDATABASE pgstow:0.1.0 backup

ARG BASE=python:3.13.1-slim-bookworm

FROM ${BASE} AS build
WORKDIR /source
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY storage_backends storage_backends
COPY pipeline pipeline
COPY cli cli
COPY tools/command_pages.py tools/shell_files.py tools/
# The lock pins the demo's packages too, which are of no use here: so it constrains.
RUN python -m venv /opt/pgstow && \
    /opt/pgstow/bin/pip install --no-cache-dir --constraint requirements.lock '.[notify]'

FROM ${BASE}
# The server's own major version, or a newer one: pg_restore 17 and newer can't restore into servers older than 17.
ARG POSTGRESQL_MAJOR=17
RUN apt-get update && \
    apt-get install --yes --no-install-recommends ca-certificates postgresql-common && \
    /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y && \
    apt-get install --yes --no-install-recommends "postgresql-client-${POSTGRESQL_MAJOR}" && \
    rm -rf /var/lib/apt/lists/* && \
    useradd --uid 10001 --create-home --shell /usr/sbin/nologin pgstow && \
    install --directory --owner pgstow --group pgstow --mode 0700 /spool
COPY --from=build /opt/pgstow /opt/pgstow
ENV PATH=/opt/pgstow/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    TMPDIR=/spool
USER 10001
WORKDIR /spool
# After /spool has its owner, which a volume takes over.
VOLUME /spool
ENTRYPOINT ["pgstow"]
