"""A whole server, backed up and restored. What concerns one database alone must not enter."""
