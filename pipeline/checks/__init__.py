"""What ``pgstow check`` examines: one module for each place that a backup depends on."""
