"""The JSON Schema of the description, for editors; made from the declarations that the reader uses."""

from typing import Any, assert_never

from wisp.codec.declared import Document
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
from wisp.codec.reader import NAME_LIMIT, NAME_PATTERN

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def json_schema() -> Schema:
    """Give the JSON Schema (2020-12) of a description.

    It is what an editor can check while typing; references, ports and affinities only ``wisp validate`` checks.
    """
    definitions: dict[str, Schema] = {}
    root = _body(Document, definitions)
    merged = {"$schema": DIALECT, "title": "Wisp cloud description", **root}
    return {**merged, "$defs": dict(sorted(definitions.items()))}


def _body(body: type, definitions: dict[str, Schema]) -> Schema:
    declared = keys(body)
    properties = {word: _key(each, definitions) for each in declared for word in (each.name, *each.aliases)}
    schema: Schema = {
        "type": "object",
        "description": body.__doc__ or "",
        "properties": properties,
        "additionalProperties": False,
    }
    required = [each.name for each in declared if each.required]
    return {**schema, "required": required} if required else {**schema, "type": ["object", "null"]}


def _key(key: Key, definitions: dict[str, Schema]) -> Schema:
    return {**_form(key.form, definitions), "description": key.doc}


def _form(form: Form, definitions: dict[str, Schema]) -> Schema:
    match form:
        case Body(of=body):
            name = body.__name__.removesuffix("Body")
            if name not in definitions:
                definitions[name] = {}
                definitions[name] = _body(body, definitions)
            return {"$ref": f"#/$defs/{name}"}
        case Table():
            return _table(form, definitions)
        case Items():
            return _items(form, definitions)
        case _:
            return _scalar(form)


def _table(form: Table, definitions: dict[str, Schema]) -> Schema:
    schema: Schema = {"type": "object", "additionalProperties": _form(form.of, definitions)}
    if isinstance(form.keys, Name):
        schema["propertyNames"] = _name()
    return {**schema, "minProperties": form.minimum} if form.minimum else schema


def _items(form: Items, definitions: dict[str, Schema]) -> Schema:
    schema: Schema = {"type": "array", "items": _form(form.of, definitions)}
    if form.minimum:
        schema["minItems"] = form.minimum
    if form.maximum is not None:
        schema["maxItems"] = form.maximum
    if form.distinct:
        schema["uniqueItems"] = True
    return {"anyOf": [{"const": form.word}, schema]} if form.word else schema


def _scalar(
    form: Text | Name | Reference | Template | Flag | Count | Real | Amount | Choice,
) -> Schema:
    match form:
        case Amount(quantity=quantity):
            return {"type": ["string", "number"], "pattern": quantity.pattern, "examples": [quantity.example]}
        case Choice(words=words):
            return {"enum": [str(word) for word in words]}
        case Flag():
            return {"type": "boolean"}
        case Count(minimum=low, maximum=high):
            return {"type": "integer", "minimum": low, "maximum": high}
        case Real(minimum=low, maximum=high):
            return {"type": "number", "minimum": low, "maximum": high}
        case Name():
            return _name()
        case Reference():
            return {"type": "string"}
        case Text() | Template():
            return {"type": ["string", "number", "boolean"]}
        case _:
            assert_never(form)


def _name() -> Schema:
    return {"type": ["string", "integer"], "pattern": f"^{NAME_PATTERN}$", "maxLength": NAME_LIMIT}
