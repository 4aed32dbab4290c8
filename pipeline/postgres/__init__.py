"""The only place that runs PostgreSQL's programs and speaks to a server."""
