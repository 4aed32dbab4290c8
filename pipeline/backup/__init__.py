"""``pgstow backup`` of one database. No restore, and nothing of a whole server, belongs here."""
