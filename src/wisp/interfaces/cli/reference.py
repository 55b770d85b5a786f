"""Writes the reference pages made from the code: ``python -m wisp.interfaces.cli.reference docs/reference``."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from wisp.codec.reference import description_reference
from wisp.interfaces.cli.echo import cli

INTRODUCTION = """# The command line

Every command that gives something to read takes `--json`. A cloud is named with `--cloud NAME`; where there is just
one, the name may be left out. [Exit statuses](exit-codes.md) have a page of their own.

This page is generated from the code of the commands."""


def pages() -> Mapping[str, str]:
    """Give every generated page by its file name."""
    return {"cli.md": cli_reference(), "description.md": description_reference()}


def cli_reference() -> str:
    """Give the page of the command line as Markdown: one section per command, in alphabetical order."""
    sections = (_section(name, command) for name, command in _commands("wisp", cli))
    return "\n\n".join([INTRODUCTION, *sections]) + "\n"


def _commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Give every command that does something, with its whole name."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    for part in sorted(command.commands):
        yield from _commands(f"{name} {part}", command.commands[part])


def _section(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [f"## `{name}`", f"    {name} {usage}", _paragraphs(command.help or "")]
    options = [each for each in command.params if isinstance(each, click.Option)]
    if options:
        rows = "\n".join(_row(option) for option in options)
        parts.append(f"| option | default | meaning |\n|---|---|---|\n{rows}")
    return "\n\n".join(parts)


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _row(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    value = "" if option.is_flag else f" {option.metavar or _kind(option.type)}"
    default = f"`{option.default}`" if option.show_default else ""
    return f"| {names}{value} | {default} | {option.help or ''} |"


def _kind(kind: click.ParamType[Any]) -> str:
    return " or ".join(kind.choices) if isinstance(kind, click.Choice) else kind.name.upper()


def main() -> None:
    """Write the pages into the folder that is the only argument."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text)
        click.echo(folder / name)


if __name__ == "__main__":
    main()
