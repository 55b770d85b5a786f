"""A place per test, which must be as empty afterwards as before, whatever was done to its clouds."""

from tests.integration.cloud.conftest import place

__all__ = ["place"]
