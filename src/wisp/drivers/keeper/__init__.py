"""Talks to the keeper, the small process that holds what must outlive a controller."""
