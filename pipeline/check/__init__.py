"""``pgstow check``: examines whether a backup would succeed. Code that makes backups must not be here."""
