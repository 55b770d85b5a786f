"""Contract suites and builders, shipped for authors of drivers."""
