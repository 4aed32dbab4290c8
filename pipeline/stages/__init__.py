"""The stages that every byte passes, a module for each. The writer of a format stands beside its reader."""
