"""The system's clock: the one place that reads it."""
