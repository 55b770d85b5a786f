"""The commands for topologies; see ``commands``."""

from pathlib import Path

import click

from wisp.interfaces.cli import show
from wisp.interfaces.cli.commands import cli, json_option, machine

__all__ = ["cli"]


@cli.group()
def topology() -> None:
    """Networks that somebody else drew."""


@topology.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", default="", help="Name of the cloud; from the file's name when not given.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the description there.")
@json_option
def topology_import(file: Path, name: str, output: Path | None, as_json: bool) -> None:
    """Give the description of routers and links that FILE draws, in GML as the Internet Topology Zoo.

    A link's delay is that of light in fibre between the places of its ends.
    """
    found = machine().import_topology(file, name=name)
    if output is not None:
        output.write_text(found["description"])
    if as_json:
        show.as_json(found)
        return
    for note in found["notes"]:
        click.echo(f"note: {note}", err=True)
    if output is None:
        click.echo(found["description"], nl=False)
    else:
        click.echo(f"{output}: {found['routers']} routers, {found['links']} links; bring it up with `wisp up {output}`")
