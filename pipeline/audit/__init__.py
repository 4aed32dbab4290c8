"""What a store's records say about its backups, and what is wrong with them: audit, diff, find and stats. No data are read."""
