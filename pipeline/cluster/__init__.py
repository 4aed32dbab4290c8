"""A whole server: all its databases, roles and tablespaces, backed up and restored."""
