"""Measure what many tables, large objects, schemas and backups cost: ``python -m benchmarks.scale``."""
