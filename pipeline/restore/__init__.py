"""``pgstow restore`` and ``export`` of one database. What writes to a store must not enter."""
