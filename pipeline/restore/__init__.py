"""``pgstow restore`` and ``export`` of one database. Nothing here writes to a store."""
