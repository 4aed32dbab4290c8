"""``pgstow prune``, ``gc`` and ``hold``: which objects are removed from a store, and which stay. Nothing here reads a backup's data."""
