"""``pgstow verify``: check that a backup is what its manifest says. Nothing here changes a backup."""
