"""How long tests wait for something that must happen."""

PATIENCE = 300.0
"""Seconds: so many that a busy machine makes no test fail."""
