"""Measurements of Wisp beside its peers and its floor."""
