"""``pgstow verify``: whether a backup is what its manifest says. What changes a backup must not enter."""
