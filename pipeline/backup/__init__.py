"""``pgstow backup`` of one database. Code for restores or for whole servers must not be here."""
