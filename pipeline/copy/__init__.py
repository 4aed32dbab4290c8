"""pgstow copy: backups from one store to another."""
