"""``pgstow prune``, ``gc`` and ``hold``: what goes from a store and what stays. Nothing here reads a backup's data."""
