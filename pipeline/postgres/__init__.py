"""PostgreSQL's programs, sessions and formats. Nothing else runs the programs or speaks to a server."""
