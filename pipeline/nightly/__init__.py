"""``pgstow run``: a night's work, as pgstow.toml lists it. How a single backup is made, verified or pruned isn't here."""
