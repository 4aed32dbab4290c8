"""``pgstow check``: find out if a backup would succeed. No backup is made here."""
