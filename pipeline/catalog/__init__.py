"""The documents in a store, and how to find them. No module here may use PostgreSQL's programs or a server."""
