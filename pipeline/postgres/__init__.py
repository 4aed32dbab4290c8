"""PostgreSQL's programs, servers, and the formats of its archives. Stores must not enter."""
