"""``pgstow run``: does the jobs in pgstow.toml, each night. Code that makes, verifies or prunes backups must not be here."""
