"""Values behave as frozen dataclasses do."""

import pickle
from dataclasses import FrozenInstanceError, field, fields, is_dataclass, replace

import pytest

from wisp.primitives.values import frozen


@frozen
class Point:
    x: int
    y: int = 0
    notes: dict[str, int] = field(default_factory=dict)


@frozen
class Positive(Point):
    z: int = 1

    def __post_init__(self) -> None:
        if self.z <= 0:
            raise ValueError("z must be positive")


def test_they_compare_and_hash_by_content_and_class() -> None:
    assert Point(x=1) == Point(x=1, y=0, notes={})
    assert Point(x=1) != Point(x=2)
    assert Point(x=1) != Positive(x=1)
    assert Point(x=1) != (1, 0, {})
    with pytest.raises(TypeError):
        hash(Point(x=1))  # as its notes cannot be
    assert len({_Bare(), _Bare()}) == 1


def test_nothing_can_be_set_deleted_or_added() -> None:
    point = Point(x=1)
    with pytest.raises(FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del point.x
    with pytest.raises((FrozenInstanceError, AttributeError)):
        point.other = 2  # type: ignore[attr-defined]
    assert not hasattr(point, "__dict__")


def test_fields_are_given_by_keyword() -> None:
    with pytest.raises(TypeError):
        Point(1)  # type: ignore[misc]
    with pytest.raises(TypeError):
        Point(y=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Point(x=1, w=1)  # type: ignore[call-arg]


def test_a_default_that_is_made_is_made_for_each() -> None:
    one, other = Point(x=1), Point(x=1)
    one.notes["seen"] = 1
    assert other.notes == {}


def test_a_value_may_extend_another_and_check_itself() -> None:
    assert repr(Positive(x=1)) == "Positive(x=1, y=0, notes={}, z=1)"
    with pytest.raises(ValueError, match="positive"):
        Positive(x=1, z=0)


def test_the_tools_for_dataclasses_work() -> None:
    point = Point(x=1, notes={"a": 1})
    assert is_dataclass(point)
    assert [each.name for each in fields(point)] == ["x", "y", "notes"]
    assert replace(point, y=5) == Point(x=1, y=5, notes={"a": 1})
    assert pickle.loads(pickle.dumps(point)) == point  # noqa: S301 - our own


@frozen
class _Bare:
    """Nothing in it."""
