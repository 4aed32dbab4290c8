"""Run pgstow side by side with the commands that people use instead: ``python -m benchmarks``."""
