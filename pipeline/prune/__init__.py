"""``pgstow prune``, ``gc`` and ``hold``: what goes from a store. What reads a backup's data must not enter."""
