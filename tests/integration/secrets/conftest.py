"""The same empty place as for whole clouds."""

from tests.integration.cloud.conftest import place

__all__ = ["place"]
