"""Measure commands that read the records of all backups: a year of nights of 300 databases, in a store that is slow to answer."""

import subprocess
from collections.abc import Iterator
from math import ceil

from benchmarks.runs import say
from benchmarks.scale import commands
from benchmarks.scale.lab import Lab
from benchmarks.scale.rows import Row, Trial, repeat
from benchmarks.scale.synthetic_store import CLUSTERS, SyntheticStore
from benchmarks.stores import environment_of

_DATABASES_OF_A_CLUSTER, _NIGHTS = 30, 365
DELAY = 0.01
"""The time that each request to the store waits, in seconds."""


def measure_audit(lab: Lab) -> Iterator[Row]:
    """Yield the rows of a store with 109,500 signed backups of 20 tables each. Only the first audit of a cluster reads all records."""
    databases = lab.size(_DATABASES_OF_A_CLUSTER)
    bench = lab.start("audit")
    lab.template(bench)
    [manifest] = (bench.directory / "template" / "manifests").rglob("*.json")
    private, public = bench.directory / "signing.pem", bench.directory / "signing.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    of_cluster = databases * _NIGHTS
    whole = len(CLUSTERS) * of_cluster
    what = f"S3, {DELAY * 1000:g} ms a request"
    cold = Row(f"{what}, {of_cluster:,} signed backups: the first audit", {"GET": 2 * of_cluster})
    limits = {"seconds": 60, "memory": 300, "GET": 0, "LIST": 2 * ceil(2 * whole / 1000) + 3}
    warm = Row(f"{what}, {whole:,} signed backups: a later audit", limits)
    stats = Row(f"{what}, {whole:,} signed backups: stats", {"seconds": 60, "memory": 300, "GET": 0})
    with SyntheticStore(manifest, private, databases, _NIGHTS, DELAY) as store:

        def run(command: str, cluster: str = "") -> Trial:
            before = store.counts()
            own = {"CLUSTER": cluster, "PUBLIC_KEY": str(public), "XDG_CACHE_HOME": str(bench.directory / "cache")}
            cost = bench.run(command, {**environment_of(store.endpoint), **own})
            return Trial(cost, store.counts() - before)

        repeat(cold, 1, lambda _turn: run(commands.AUDIT_CLUSTER, CLUSTERS[0]))
        yield cold
        for cluster in CLUSTERS[1:]:
            say(f"Auditing {cluster} for the first time")
            run(commands.AUDIT_CLUSTER, cluster)
        repeat(warm, lab.repeat, lambda _turn: run(commands.AUDIT))
        yield warm
        repeat(stats, lab.repeat, lambda _turn: run(commands.STATS))
        yield stats
