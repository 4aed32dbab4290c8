"""``pgstow run``: back up the databases in pgstow.toml every night. How a backup is made, verified or pruned isn't here."""
