"""Makes, keeps, verifies and restores backups."""
