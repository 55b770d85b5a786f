"""Values: frozen, slotted dataclasses whose fields are given by keyword.

``@frozen`` gives what ``@dataclass(frozen=True, slots=True, kw_only=True)`` gives, at half the cost: that one compiles
six functions for every class, one by one, which was a quarter of the time that a controller, or any command, took to
start.

>>> from dataclasses import replace
>>> @frozen
... class Point:
...     x: int
...     y: int = 0
>>> Point(x=1)
Point(x=1, y=0)
>>> Point(x=1) == Point(x=1, y=0), replace(Point(x=1), y=2).y
(True, 2)
"""

from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform

_T = TypeVar("_T")
# What is compiled for every class, for those methods that are called so often that a loop over fields would tell.
_METHODS = """\
def __init__({parameters}):
 {assignments}
def __eq__(self, other):
 return ({own}) == ({others}) if other.__class__ is self.__class__ else NotImplemented
def __hash__(self):
 return hash(({own}))
"""


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def frozen(cls: type[_T]) -> type[_T]:
    """Make a class a value, by its annotations."""
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True, kw_only=True)(cls)
    for name, method in (_compiled(fields(made), calls_post=hasattr(made, "__post_init__")) | _SHARED).items():
        setattr(made, name, method)
    return made  # type: ignore[no-any-return]


def _compiled(every: tuple[Field[Any], ...], *, calls_post: bool) -> dict[str, Any]:
    known: dict[str, Any] = {"set_": object.__setattr__, "MISSING": MISSING}
    source = _METHODS.format(
        parameters=", ".join(["self", *(["*"] if every else []), *(_parameter(each, known) for each in every)]),
        assignments="; ".join(
            [*(_assignment(each) for each in every), "self.__post_init__()" if calls_post else "pass"]
        ),
        own="".join(f"self.{each.name}, " for each in every),
        others="".join(f"other.{each.name}, " for each in every),
    )
    made: dict[str, Any] = {}
    exec(source, known, made)  # noqa: S102 - of names of fields only
    return made


def _parameter(each: Field[Any], known: dict[str, Any]) -> str:
    """Give a field's parameter; defaults go by name into ``known``."""
    if each.default_factory is not MISSING:
        known[f"make_{each.name}"] = each.default_factory
        return f"{each.name}=MISSING"
    if each.default is not MISSING:
        known[f"default_{each.name}"] = each.default
        return f"{each.name}=default_{each.name}"
    return each.name


def _assignment(each: Field[Any]) -> str:
    made_anew = f"make_{each.name}() if {each.name} is MISSING else "
    return f"set_(self, {each.name!r}, {made_anew if each.default_factory is not MISSING else ''}{each.name})"


def _repr(self: Any) -> str:
    inside = ", ".join(f"{each.name}={getattr(self, each.name)!r}" for each in fields(self))
    return f"{type(self).__qualname__}({inside})"


def _state(self: Any) -> list[Any]:
    return [getattr(self, each.name) for each in fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for each, content in zip(fields(self), state, strict=True):
        object.__setattr__(self, each.name, content)


def _refuse_to_set(_: object, name: str, content: object) -> None:
    raise FrozenInstanceError(f"cannot assign {content!r} to field {name!r}")


def _refuse_to_delete(_: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


_SHARED = {
    "__repr__": _repr,
    "__getstate__": _state,
    "__setstate__": _set_state,
    "__setattr__": _refuse_to_set,
    "__delattr__": _refuse_to_delete,
}
