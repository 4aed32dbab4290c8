"""``pgstow verify``: checks that a backup is what its manifest says. Code that changes a backup must not be here."""
