"""PostgreSQL's programs, its servers, and the formats of its archives. No module here may use a store."""
