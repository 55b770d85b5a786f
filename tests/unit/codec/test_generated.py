"""The JSON Schema and the reference page say what the reader reads."""

import re
from dataclasses import fields, is_dataclass

from wisp.codec import declared
from wisp.codec.form import Amount, keys
from wisp.codec.reference import description_reference
from wisp.codec.schema import json_schema

BODIES = [each for each in vars(declared).values() if is_dataclass(each) and each.__module__ == declared.__name__]


def test_every_key_is_in_the_schema():
    schema = json_schema()
    for body in BODIES:
        name = body.__name__.removesuffix("Body")
        properties = schema["properties"] if body is declared.Document else schema["$defs"][name]["properties"]
        assert {field.name for field in fields(body)} <= properties.keys()


def test_every_reference_in_the_schema_leads_somewhere():
    schema = json_schema()
    assert set(re.findall(r"#/\$defs/(\w+)", str(schema))) == schema["$defs"].keys()


def test_patterns_in_the_schema_match_what_the_reader_takes():
    for body in BODIES:
        for key in keys(body):
            if isinstance(key.form, Amount):
                quantity = key.form.quantity
                for value in (quantity.minimum, quantity.maximum, 12_345 * 10**3):
                    if quantity.minimum <= value <= quantity.maximum:
                        assert re.search(quantity.pattern, quantity.render(value))


def test_every_key_is_on_the_page_with_its_meaning():
    page = description_reference()
    for body in BODIES:
        for key in keys(body):
            assert f"`{key.name}`" in page
            assert key.doc in page
