"""The documents in a store, and finding them. PostgreSQL's programs and servers must not enter."""
