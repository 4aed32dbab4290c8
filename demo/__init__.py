"""pgstow at work on a PostgreSQL server of its own: ``python -m demo``, or ``make demo``."""
