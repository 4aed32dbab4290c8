"""Writes and reads an archive in a store. Code in this package must not know why the archive is written or read."""
