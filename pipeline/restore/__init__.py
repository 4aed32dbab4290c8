"""``pgstow restore`` and ``export`` of one database. Code that writes to a store must not be here."""
