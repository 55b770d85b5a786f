"""What a value in the description may look like; read by the reader, the JSON Schema and the reference page.

A *body* is a frozen dataclass whose fields are declared with :func:`key`.
"""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from wisp.codec.units import Quantity


@dataclass(frozen=True, slots=True)
class Text:
    """Any text that says something; ``like`` shows one."""

    like: str = ""


@dataclass(frozen=True, slots=True)
class Name:
    """A name of one's own: a DNS label."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The name of something declared in one of ``sections``, or the word ``instances``."""

    sections: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """Text that may hold placeholders; in a ``command`` also ``${python}``, elsewhere also ``${secret.NAME}``."""

    command: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    """``true`` or ``false``."""


@dataclass(frozen=True, slots=True)
class Count:
    """A whole number in a range."""

    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class Real:
    """A number in a range."""

    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True)
class Amount:
    """A number with a unit."""

    quantity: Quantity


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Items:
    """A list; ``word`` may stand for it."""

    of: "Form"
    minimum: int = 0
    maximum: int | None = None
    word: str | None = None
    distinct: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping from keys to values of one form.

    Attributes:
        keys: What the keys are: a :class:`Name`, a :class:`Reference`, or any :class:`Text`.
        section: Under which word the keys may be referred to; empty for nowhere.
    """

    of: "Form"
    keys: Name | Reference | Text = Name()
    section: str = ""
    minimum: int = 0


@dataclass(frozen=True, slots=True)
class Body:
    """A mapping with fixed keys: the fields of a dataclass declared with :func:`key`."""

    of: type


Form = Text | Name | Reference | Template | Flag | Count | Real | Amount | Choice | Items | Table | Body


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a body.

    Attributes:
        name: As written.
        doc: What it means, a sentence.
        default: Value when it is not written; ``MISSING`` when it must be.
        aliases: Other words for it.
    """

    name: str
    form: Form
    doc: str
    default: Any
    aliases: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        """Whether it must be written."""
        return self.default is MISSING


def key(form: Form, doc: str, *, default: Any = MISSING, aliases: Sequence[str] = ()) -> Any:
    """Declare one key of a body, as a dataclass field.

    A mapping as default is copied by nobody: bodies are frozen and never changed.
    """
    metadata = {"form": form, "doc": doc, "aliases": tuple(aliases)}
    if isinstance(default, dict):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


def keys(body: type) -> tuple[Key, ...]:
    """Give the keys of a body, in the order they are declared."""
    return tuple(
        Key(
            name=each.name,
            form=each.metadata["form"],
            doc=each.metadata["doc"],
            default=each.default if each.default_factory is MISSING else each.default_factory(),
            aliases=each.metadata["aliases"],
        )
        for each in fields(body)
    )
