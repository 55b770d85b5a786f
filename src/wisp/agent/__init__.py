"""Carries out actions through the drivers and reports what it sees."""
