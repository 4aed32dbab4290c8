"""The documents of a store, and how to find them. Nothing here knows PostgreSQL's programs, or how data is stored."""
