"""``pgstow run``: the jobs that pgstow.toml lists, each night. How a backup is made, verified or pruned must not enter."""
