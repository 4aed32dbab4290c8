"""A demo of pgstow on its own PostgreSQL server: ``python -m demo``, or ``make demo``."""
