"""Side-by-side runs against what people would use instead: ``python -m benchmarks``."""
