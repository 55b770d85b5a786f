"""The loop of loops: ``core`` decides without input or output, ``runner`` performs."""
