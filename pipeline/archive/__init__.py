"""An archive in a store, written and read. What a backup or a restore is for must not be known here."""
