"""``pgstow prune``, ``gc`` and ``hold``: removes backups from a store or protects them. Code that reads a backup's data must not be here."""
