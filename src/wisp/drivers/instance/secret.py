"""Secrets are put in where a driver needs them, and nowhere else."""

import re
from collections.abc import Mapping

from wisp.primitives.errors import PermanentDriverError

PLACEHOLDER = re.compile(r"\$\{secret\.([A-Za-z0-9._-]+)\}")


def filled_in(value: str, secrets: Mapping[str, str]) -> str:
    """Give ``value`` with every ``${secret.NAME}`` replaced.

    Raises:
        PermanentDriverError: A secret has no value here.
    """

    def of(match: re.Match[str]) -> str:
        try:
            return secrets[match[1]]
        except KeyError:
            raise PermanentDriverError(
                f"secret {match[1]} has no value; give it in the description's `secrets` and run `wisp up` again"
            ) from None

    return PLACEHOLDER.sub(of, value)


def has_secret(value: str) -> bool:
    """Whether a value names a secret."""
    return PLACEHOLDER.search(value) is not None
