"""Builds, checks and lists sealed guest images."""
