"""``pgstow check``: whether a backup would succeed. Nothing that makes a backup must enter."""
