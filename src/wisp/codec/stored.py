"""The stored form of model values: JSON, for the database and for ``--json``.

>>> from wisp.model.plan import Refusal
>>> decode(encode(Refusal(host="h1", reason="is down")), Refusal)
Refusal(host='h1', reason='is down')
"""

from typing import Any, TypeVar

import msgspec

from wisp.primitives.errors import StateError

Value = TypeVar("Value")


def encode(value: object) -> bytes:
    """Give the JSON of a model value."""
    return msgspec.json.encode(value)


def decode(data: bytes | str, form: type[Value]) -> Value:
    """Read back what :func:`encode` gave.

    Raises:
        StateError: The data is not the JSON of a ``form``.
    """
    try:
        return msgspec.json.decode(data, type=form)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise StateError(f"stored {form.__name__} cannot be read: {error}") from error


def to_builtins(value: object) -> Any:
    """Give a model value as plain dictionaries, lists, strings and numbers."""
    return msgspec.to_builtins(value)
