"""``pgstow backup`` of one database. Nothing about restores or whole servers belongs here."""
