"""Backs up and restores a whole server. Code that concerns only one database must not be here."""
