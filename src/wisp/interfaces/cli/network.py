"""The commands for topologies; see ``commands``."""

import asyncio
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import click

from wisp.interfaces.cli import show
from wisp.interfaces.cli.commands import chosen, cli, cloud_option, json_option, machine
from wisp.interfaces.facade import CloudFacade
from wisp.model.description import Link, LinkShape

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


@cli.group()
def router() -> None:
    """Virtual routers of a running cloud: list, add, remove."""


@router.command("ls")
@cloud_option
@json_option
def router_ls(cloud_name: str | None, as_json: bool) -> None:
    """List routers with their links."""
    _show_routers(chosen(cloud_name), as_json)


@router.command("add")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--latitude", metavar="DEGREES", help="Where it stands.")
@click.option("--longitude", metavar="DEGREES", help="Where it stands.")
@cloud_option
@json_option
def router_add(
    names: tuple[str, ...], latitude: str | None, longitude: str | None, cloud_name: str | None, as_json: bool
) -> None:
    """Make routers; `wisp link add` joins them to others."""
    cloud = chosen(cloud_name)
    asyncio.run(cloud.network.add_routers(*names, latitude=latitude, longitude=longitude))
    _show_routers(cloud, as_json)


@router.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@cloud_option
@json_option
def router_rm(names: tuple[str, ...], cloud_name: str | None, as_json: bool) -> None:
    """Take routers away, with their links; traffic is led around them first."""
    cloud = chosen(cloud_name)
    asyncio.run(cloud.network.remove_routers(*names))
    _show_routers(cloud, as_json)


@cli.group()
def link() -> None:
    """Links of a running cloud: list, add, change, remove."""


def _shape_options(command: Any) -> Any:
    for name, what in (
        ("weight", "What it costs a packet, with `routing.by: weight`, in both directions."),
        ("queue", "Packets that may wait for the rate, as 50."),
        ("loss", "Random loss, as 1%."),
        ("jitter", "Half-width of the variation of the delay, as 1ms."),
        ("delay", "Delay one way, as 5ms."),
        ("rate", "Rate, as 100Mbit."),
    ):
        command = click.option(f"--{name}", metavar=name.upper(), help=what)(command)
    return command


@link.command("ls")
@cloud_option
@json_option
def link_ls(cloud_name: str | None, as_json: bool) -> None:
    """List links with what they do to packets."""
    _show_links(chosen(cloud_name), as_json)


@link.command("add")
@click.argument("first")
@click.argument("second")
@click.option("--name", help="Name of the link; from both ends when not given.")
@_shape_options
@cloud_option
@json_option
def link_add(
    first: str, second: str, name: str | None, cloud_name: str | None, as_json: bool, **shape: str | None
) -> None:
    """Join FIRST and SECOND, each a host or a router."""
    cloud = chosen(cloud_name)
    _carry_out(cloud.network.add_link(first, second, name=name, **_said(shape)), cloud, as_json)


@link.command("set")
@click.argument("name")
@click.option("--forward", "direction", flag_value="forward", help="Only from the first to the second.")
@click.option("--backward", "direction", flag_value="backward", help="Only from the second to the first.")
@_shape_options
@cloud_option
@json_option
def link_set(name: str, direction: str | None, cloud_name: str | None, as_json: bool, **shape: str | None) -> None:
    """Change what the link NAME does to packets, while they flow; what is not said stays, `none` takes it away."""
    said = _said(shape)
    if not said:
        raise click.UsageError("say what changes: --rate, --delay, --jitter, --loss, --queue or --weight")
    cloud = chosen(cloud_name)
    directions = ("forward", "backward") if direction is None else (direction,)
    _carry_out(cloud.network.set_link(name, directions=directions, **said), cloud, as_json)


@link.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@cloud_option
@json_option
def link_rm(names: tuple[str, ...], cloud_name: str | None, as_json: bool) -> None:
    """Take links away; traffic is led around them first."""
    cloud = chosen(cloud_name)
    _carry_out(cloud.network.remove_links(*names), cloud, as_json)


@link.command("counters")
@cloud_option
@json_option
def link_counters(cloud_name: str | None, as_json: bool) -> None:
    """Tell what went over every link, in each direction, since it was made.

    DROPPED found no room at the beginning of the link; what a declared loss takes is not in it.
    """
    found = asyncio.run(chosen(cloud_name).link_counters())
    if as_json:
        show.as_json(found)
        return
    rows = [
        (each.link, each.begin, each.end, str(each.sent_packets), show.size(each.sent_bytes), str(each.dropped_packets))
        for each in found
    ]
    show.table(("LINK", "FROM", "TO", "PACKETS", "BYTES", "DROPPED"), rows, right=(3, 4, 5))


@router.command("counters")
@cloud_option
@json_option
def router_counters(cloud_name: str | None, as_json: bool) -> None:
    """Tell what went into and out of every router, over the links that it has now."""
    found = asyncio.run(chosen(cloud_name).router_counters())
    if as_json:
        show.as_json(found)
        return
    rows = [
        (
            each.router,
            str(each.received_packets),
            show.size(each.received_bytes),
            str(each.sent_packets),
            show.size(each.sent_bytes),
            str(each.dropped_packets),
        )
        for each in found
    ]
    headings = ("ROUTER", "IN PACKETS", "IN BYTES", "OUT PACKETS", "OUT BYTES", "DROPPED")
    show.table(headings, rows, right=(1, 2, 3, 4, 5))


def _said(shape: Mapping[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in shape.items() if value is not None}


def _carry_out(work: Coroutine[Any, Any, None], cloud: CloudFacade, as_json: bool) -> None:
    asyncio.run(work)
    _show_links(cloud, as_json)


def _show_routers(cloud: CloudFacade, as_json: bool) -> None:
    routers, links = cloud.network.routers(), cloud.network.links()
    if as_json:
        show.as_json(routers)
        return
    joined = {each.name: [link.name for link in links if each.name in link.ends] for each in routers}
    show.table(("ROUTER", "LINKS"), [(name, ", ".join(names) or "none") for name, names in joined.items()])


def _show_links(cloud: CloudFacade, as_json: bool) -> None:
    links = cloud.network.links()
    if as_json:
        show.as_json(links)
        return
    show.table(("LINK", "FROM", "TO", "WEIGHT", "FORWARD", "BACKWARD"), [_row(each) for each in links], right=(3,))


def _row(link: Link) -> tuple[str, ...]:
    return (link.name, *link.ends, str(link.weight), _words(link.forward), _words(link.backward))


def _words(shape: LinkShape) -> str:
    words = [] if shape.rate_bps is None else [f"{shape.rate_bps / 1e6:g} Mbit/s"]
    words += [f"{shape.delay_us / 1000:g} ms"] if shape.delay_us else []
    words += [f"± {shape.jitter_us / 1000:g} ms"] if shape.jitter_us else []
    words += [f"{shape.loss_ppm / 1e4:g} % loss"] if shape.loss_ppm else []
    return ", ".join(words) or "as it is"
