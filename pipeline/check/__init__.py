"""``pgstow check``: whether a backup would succeed. No backup is made here."""
