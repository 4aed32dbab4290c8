"""An archive in a store: code that writes and reads its files. Nothing here knows the purpose of a backup or a restore."""
