"""``pgstow verify``: whether a backup is what its manifest says. Nothing here changes a backup."""
