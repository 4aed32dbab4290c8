"""Backups and restores of a whole server: databases, roles and tablespaces. How a single database is dumped or restored isn't here."""
