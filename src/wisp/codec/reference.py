"""The reference page of the description, made from the declarations that the reader uses."""

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

from wisp.codec import declared, placeholder
from wisp.codec.form import (
    Amount,
    Body,
    Choice,
    Count,
    Flag,
    Form,
    Items,
    Key,
    Name,
    Real,
    Reference,
    Table,
    Template,
    Text,
    keys,
)
from wisp.codec.units import Quantity

INTRODUCTION = """# The description

One YAML file describes a whole edge cloud. `wisp validate FILE` checks it and names every problem at once;
`wisp schema` prints its JSON Schema for editors. Names are DNS labels: lower-case letters, digits and dashes.
Numbers carry their unit. Anchors, aliases and merge keys (`<<: *anchor`) may save writing. Paths start from the
folder of the file.

This page is generated from the code that reads descriptions.
"""


def description_reference() -> str:
    """Give the page as Markdown: one table per kind of body, then quantities and placeholders."""
    bodies: dict[type, list[str]] = {}
    _gather(declared.Document, "", bodies)
    sections = (_section(body, names) for body, names in bodies.items())
    return "\n".join([INTRODUCTION, *sections, _quantities(bodies), _placeholders()])


def _gather(body: type, name: str, bodies: dict[type, list[str]]) -> None:
    """Note every body with the keys that hold it, each after the one that first needs it."""
    known = body in bodies
    names = bodies.setdefault(body, [])
    if name not in names:
        names.append(name)
    for each in () if known else keys(body):
        if (inner := _inner_body(each.form)) is not None:
            _gather(inner, each.name, bodies)


def _inner_body(form: Form) -> type | None:
    match form:
        case Body(of=body):
            return body
        case Table(of=of) | Items(of=of):
            return _inner_body(of)
        case _:
            return None


def _section(body: type, names: list[str]) -> str:
    title = ", ".join(f"`{name}`" for name in names if name) or "The whole file"
    rows = "\n".join(_row(key) for key in keys(body))
    table = f"| key | value | default | meaning |\n|---|---|---|---|\n{rows}\n"
    return f"## {title}\n\n{_sentence(body)}\n\n{table}"


def _sentence(body: type) -> str:
    return " ".join((body.__doc__ or "").split())


def _row(key: Key) -> str:
    names = " or ".join(f"`{word}`" for word in (key.name, *key.aliases))
    return f"| {names} | {_form(key.form)} | {_default(key)} | {key.doc} |"


def _form(form: Form) -> str:
    match form:
        case Text(like=like):
            return f"text, as `{like}`" if like else "text"
        case Name():
            return "name"
        case Reference(sections=sections):
            return "name of " + " or ".join(f"one of `{section}`" for section in sections)
        case Template():
            return "text with placeholders"
        case Flag():
            return "`true` or `false`"
        case Count(minimum=low, maximum=high):
            return f"{low} to {high}"
        case Real(minimum=low, maximum=high):
            return f"{low:g} to {high:g}"
        case Amount(quantity=quantity):
            return f"{quantity.name}, as {_example(quantity)}"
        case Choice(words=words):
            return ", ".join(f"`{word}`" for word in words)
        case Items(of=of, word=word):
            return f"list of: {_form(of)}" + (f"; or `{word}`" if word else "")
        case Table(of=Body(), keys=Name()):
            return "names, each with keys of its own, see below"
        case Table(of=of):
            return f"names, each with: {_form(of)}"
        case Body():
            return "keys, see below"


def _example(quantity: Quantity) -> str:
    return " or ".join(f"`{part}`" for part in quantity.example.split(" or "))


def _default(key: Key) -> str:
    if key.required:
        return "*required*"
    value: Any = key.default
    if value is None or value == "" or value == {} or value == () or isinstance(key.form, Body):
        return ""
    if isinstance(key.form, Amount):
        return f"`{key.form.quantity.render(value)}`"
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value.value if isinstance(value, Enum) else value}`"


def _quantities(bodies: Iterable[type]) -> str:
    used = {form.quantity.name: form.quantity for body in bodies for form in _amounts(body)}
    rows = "\n".join(
        f"| {each.name} | {', '.join(f'`{unit}`' if unit else 'none' for unit in each.units)} | {each.stored} "
        f"| {each.render(each.minimum)} to {each.render(each.maximum)} |"
        for each in used.values()
    )
    return f"## Quantities\n\n| quantity | units | kept as | range |\n|---|---|---|---|\n{rows}\n"


def _amounts(body: type) -> Iterator[Amount]:
    for each in keys(body):
        inner = each.form.of if isinstance(each.form, Table | Items) else each.form
        if isinstance(inner, Amount):
            yield inner


def _placeholders() -> str:
    rows = "\n".join(f"| `{form}` | {meaning} |" for form, meaning in placeholder.MEANINGS.items())
    note = "Quote values that hold placeholders inside `[...]` and `{...}`: braces mean something to YAML there."
    table = f"| placeholder | stands for |\n|---|---|\n{rows}\n"
    return f"## Placeholders\n\nIn commands, configuration and environments. {note}\n\n{table}"
