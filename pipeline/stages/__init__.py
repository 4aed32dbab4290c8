"""The stages that every byte passes, one module each; what writes a format stands beside what reads it."""
