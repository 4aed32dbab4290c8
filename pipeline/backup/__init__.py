"""``pgstow backup`` of one database. What concerns a restore or a whole server must not enter."""
