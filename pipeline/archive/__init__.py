"""An archive in a store: its files written and read. Nothing here knows what a backup or a restore is for."""
