"""The ``wisp`` commands. Each is a thin user of the facade; every one takes ``--json``.

Exit status: 0 done; 1 failed; 2 the description or the call is wrong; 3 the machine lacks something (the message
says what to run); 4 no placement satisfies the description; 130 interrupted.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from wisp.interfaces.cli import show
from wisp.interfaces.facade import CloudFacade, MachineFacade
from wisp.model.view import InstanceRow

CLOUD_HELP = "Name of the cloud; not needed where there is just one."
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
cloud_option = click.option("-c", "--cloud", "cloud_name", help=CLOUD_HELP)
timeout_option = click.option("--timeout", "timeout_s", default=120.0, show_default=True, help="Longest wait [s].")
description = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="wisp-edge", prog_name="wisp")
def cli() -> None:
    """Lightweight clouds at the network edge.

    One YAML file declares sites, hosts, links, services and devices; `wisp up FILE` brings it up.
    """


def machine() -> MachineFacade:
    """Give the facade that ``assembly`` handed in."""
    found: MachineFacade = click.get_current_context().obj
    return found


def chosen(name: str | None) -> CloudFacade:
    """Give the cloud of that name, or the only one there is."""
    if name:
        return machine().cloud(name=name)
    names = machine().clouds()
    if len(names) == 1:
        return machine().cloud(name=names[0])
    if not names:
        raise click.UsageError("there is no cloud here; `wisp up FILE` makes one")
    raise click.UsageError(f"there are several clouds ({', '.join(names)}); say which with --cloud NAME")


@cli.command()
@description
@json_option
@timeout_option
def up(file: Path, as_json: bool, timeout_s: float) -> None:
    """Bring a cloud to what FILE says; a running one changes only where it differs."""
    _brought(machine().cloud(file).up(show.progress_line(quiet=as_json), timeout_s=timeout_s), as_json)


@cli.command()
@click.argument("cloud_name", required=False, metavar="[NAME|FILE]")
@json_option
@click.option("--all", "every", is_flag=True, help="End every cloud of this user.")
def down(cloud_name: str | None, as_json: bool, every: bool) -> None:
    """End a cloud and remove everything of it."""
    clouds = [machine().cloud(name=name) for name in machine().clouds()] if every else [_named(cloud_name)]
    for cloud in clouds:
        asyncio.run(cloud.down(show.progress_line(quiet=as_json)))
        show.end_progress()
    names = [cloud.name for cloud in clouds]
    show.as_json({"down": names}) if as_json else click.echo(f"{', '.join(names) or 'nothing'}: down, nothing left")


def _named(text: str | None) -> CloudFacade:
    """Give the cloud that a name or a description's path means."""
    if text and (text.endswith((".yaml", ".yml")) or os.sep in text):
        return machine().cloud(Path(text))
    return chosen(text)


@cli.command()
@description
@json_option
def plan(file: Path, as_json: bool) -> None:
    """Show what `wisp up FILE` would change, and why everything goes where it goes."""
    change = asyncio.run(machine().cloud(file).plan())
    show.as_json(change) if as_json else show.planned(change)


@cli.command()
@description
@json_option
def validate(file: Path, as_json: bool) -> None:
    """Check FILE and list all of its problems at once."""
    cloud = machine().cloud(file)
    asyncio.run(cloud.plan())
    show.as_json({"cloud": cloud.name, "problems": []}) if as_json else click.echo(f"{file}: no problems")


@cli.command()
@json_option
def schema(as_json: bool) -> None:
    """Print the JSON Schema of a description, for editors."""
    del as_json  # it is JSON either way
    show.as_json(machine().schema())


@cli.command()
@cloud_option
@json_option
def ps(cloud_name: str | None, as_json: bool) -> None:
    """List instances and what devices run."""
    rows = asyncio.run(chosen(cloud_name).ps())
    show.as_json(rows) if as_json else show.instances(rows)


@cli.command()
@cloud_option
@json_option
@click.option("--interval", "interval_s", default=1.0, show_default=True, help="Time between looks [s].")
@click.option("--count", default=0, help="Number of looks; 0 goes on until interrupted.")
def top(cloud_name: str | None, as_json: bool, interval_s: float, count: int) -> None:
    """Show what uses the processor and the memory, live."""
    asyncio.run(_top(chosen(cloud_name), as_json, interval_s, count))


async def _top(cloud: CloudFacade, as_json: bool, interval_s: float, count: int) -> None:
    before = {row.name: row.cpu_seconds or 0.0 for row in await cloud.ps()}
    looks = 0
    while not count or looks < count:
        await asyncio.sleep(interval_s)
        rows = await cloud.ps()
        percent = {row.name: _percent(row, before, interval_s) for row in rows}
        before, looks = {row.name: row.cpu_seconds or 0.0 for row in rows}, looks + 1
        if as_json:
            uses = [(row.name, percent[row.name], row.memory_bytes) for row in rows]
            show.as_json([{"name": name, "cpu_percent": cpu, "memory_bytes": memory} for name, cpu, memory in uses])
        else:
            _show_top(rows, percent, clear=not count)


def _percent(row: InstanceRow, before: Mapping[str, float], interval_s: float) -> float:
    used = row.cpu_seconds or 0.0
    return 100 * max(0.0, used - before.get(row.name, used)) / interval_s


def _show_top(rows: Sequence[InstanceRow], percent: Mapping[str, float], *, clear: bool) -> None:
    if clear:
        click.clear()
    busiest = sorted(rows, key=lambda row: -percent[row.name])
    lines = [(row.name, row.host, f"{percent[row.name]:.1f}", show.size(row.memory_bytes)) for row in busiest]
    show.table(("INSTANCE", "HOST", "CPU %", "MEMORY"), lines, right=(2, 3))


@cli.command()
@cloud_option
@json_option
def status(cloud_name: str | None, as_json: bool) -> None:
    """Sum up one cloud, or all of them."""
    names = [cloud_name] if cloud_name else machine().clouds()
    found = [asyncio.run(machine().cloud(name=name).status()) for name in names]
    if as_json:
        show.as_json(found)
        return
    if not found:
        click.echo("no cloud here; `wisp up FILE` makes one")
    for one in found:
        show.status(one)


@cli.command()
@cloud_option
@json_option
@click.option("-n", "limit", default=1000, show_default=True, help="How many of the newest.")
def operations(cloud_name: str | None, as_json: bool, limit: int) -> None:
    """List what was done to a cloud and mended in it, how far it came, and how long each phase took."""
    found = chosen(cloud_name).operations(limit=limit)
    show.as_json(found) if as_json else show.operations(found)


@cli.command()
@cloud_option
@json_option
@click.option("--to", type=click.IntRange(min=1), help="The revision; without it the one wanted before this one.")
@timeout_option
def rollback(cloud_name: str | None, as_json: bool, to: int | None, timeout_s: float) -> None:
    """Bring a cloud back to what was wanted before, images as they were; this also cancels an update that goes on."""
    _brought(chosen(cloud_name).rollback(show.progress_line(quiet=as_json), to=to, timeout_s=timeout_s), as_json)


@cli.command()
@cloud_option
@json_option
@timeout_option
def retry(cloud_name: str | None, as_json: bool, timeout_s: float) -> None:
    """Try at once again what has failed, instead of ever more rarely."""
    _brought(chosen(cloud_name).retry(show.progress_line(quiet=as_json), timeout_s=timeout_s), as_json)


def _brought(work: Coroutine[Any, Any, list[InstanceRow]], as_json: bool) -> None:
    """Carry a change of a cloud out and show what runs then."""
    try:
        rows = asyncio.run(work)
    finally:
        show.end_progress()
    show.as_json(rows) if as_json else show.instances(rows)


@cli.command()
@click.argument("instance")
@cloud_option
@json_option
def logs(instance: str, cloud_name: str | None, as_json: bool) -> None:
    """Print what INSTANCE wrote, its reason for ending included."""
    text = chosen(cloud_name).logs(instance)
    show.as_json({"instance": instance, "lines": text.splitlines()}) if as_json else click.echo(text, nl=False)


@cli.command()
@cloud_option
@json_option
@click.option("-f", "--follow", is_flag=True, help="Go on as things happen.")
@click.option("-n", "limit", default=1000, show_default=True, help="How many of the newest.")
def events(cloud_name: str | None, as_json: bool, follow: bool, limit: int) -> None:
    """Tell what happened, and why."""
    cloud = chosen(cloud_name)
    happened = [event for _, event in cloud.events(limit=limit)]
    if as_json and not follow:
        show.as_json(happened)
        return
    for event in happened:
        show.event(event)
    if follow:
        asyncio.run(_follow(cloud, as_json))


async def _follow(cloud: CloudFacade, as_json: bool) -> None:
    async for event in cloud.follow_events():
        show.as_json(event) if as_json else show.event(event)


@cli.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("where", metavar="HOST|DEVICE|INSTANCE")
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD [ARG...]")
@cloud_option
@json_option
def exec_(where: str, argv: Sequence[str], cloud_name: str | None, as_json: bool) -> None:
    """Run a command inside a host or a device; its exit status is ours."""
    if not as_json:
        raise SystemExit(asyncio.run(chosen(cloud_name).exec(where, argv)))
    status, output = asyncio.run(chosen(cloud_name).run(where, argv))
    show.as_json({"status": status, "output": output})
    raise SystemExit(status)


@cli.command()
@click.argument("where", metavar="HOST|DEVICE|INSTANCE")
@cloud_option
def shell(where: str, cloud_name: str | None) -> None:
    """Open a shell inside a host or a device."""
    raise SystemExit(asyncio.run(chosen(cloud_name).exec(where, [os.environ.get("SHELL") or "/bin/sh"])))


@cli.command()
@click.argument("door", metavar="LOCAL:INSTANCE:PORT")
@cloud_option
@json_option
def forward(door: str, cloud_name: str | None, as_json: bool) -> None:
    """Lead a port of this machine to an instance until interrupted.

    LOCAL is a port, or ADDRESS:PORT; 0 takes a free one.
    """
    local, _, rest = door.rpartition(":")
    local, _, instance = local.rpartition(":")
    if not local or not instance or not rest.isdigit():
        raise click.UsageError(f"{door!r} is not LOCAL:INSTANCE:PORT, as 8080:web-edge-1:80")

    def ready(where: str) -> None:
        show.as_json({"listening": where}) if as_json else click.echo(f"http://{where}/")

    asyncio.run(chosen(cloud_name).forward(local, instance, int(rest), ready))


@cli.group()
def image() -> None:
    """Build, import, list and inspect images."""


@image.command("build")
@click.argument("role")
@click.option("--target", type=click.Choice(["microvm", "spt"]), default="microvm", show_default=True)
@click.option("--content", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Folder to bake in.")
@click.option("--option", "-o", "options", multiple=True, metavar="KEY=VALUE", help="Default option to bake in.")
@json_option
def image_build(role: str, target: str, content: Path | None, options: Sequence[str], as_json: bool) -> None:
    """Build an image of ROLE with content and options baked in."""
    pairs = dict(_pair(option) for option in options)
    manifest = machine().build_image(role, target=target, content=content, options=pairs)
    show.as_json(manifest) if as_json else click.echo(f"{manifest['digest']}  {show.size(manifest['size_bytes'])}")


def _pair(option: str) -> tuple[str, str]:
    key, equals, value = option.partition("=")
    if not equals or not key:
        raise click.UsageError(f"{option!r} is not KEY=VALUE")
    return key, value


@image.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", default="", help="What to call it; the file's own name when not given.")
@json_option
def image_import(file: Path, name: str, as_json: bool) -> None:
    """Keep FILE, somebody else's unikernel, kernel or disk, and say what it is.

    A description names it by its digest: `images: {NAME: {file: "sha256:..."}}`.
    """
    manifest = machine().import_image(file, name=name)
    show.as_json(manifest) if as_json else show.imported(manifest)


@image.command("ls")
@json_option
def image_ls(as_json: bool) -> None:
    """List built and imported images."""
    manifests = machine().images()
    if as_json:
        show.as_json(manifests)
        return
    rows = [(*_image_words(manifest), show.size(manifest["size_bytes"])) for manifest in manifests]
    show.table(("DIGEST", "IMAGE", "RUNS ON", "SIZE"), rows, right=(3,))


def _image_words(manifest: Mapping[str, Any]) -> tuple[str, str, str]:
    what = (manifest["role"], manifest["target"]) if "role" in manifest else (manifest["name"], manifest["machine"])
    return (manifest["digest"][:19], *what)


@image.command("inspect")
@click.argument("digest")
@json_option
def image_inspect(digest: str, as_json: bool) -> None:
    """Check an image against its manifest and print that."""
    del as_json  # it is JSON either way
    show.as_json(machine().inspect_image(digest))


@cli.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say what this machine can do, with the remedy for what it cannot."""
    found = asyncio.run(machine().doctor())
    show.as_json(found) if as_json else show.findings(found)
    if any(finding.state == "missing" for finding in found):
        raise SystemExit(3)


@cli.command()
@click.argument("name", metavar="NAME")
@json_option
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Write a PNG there.")
@click.option("--quick", is_flag=True, help="Fewer runs.")
def bench(name: str, as_json: bool, plot: Path | None, quick: bool) -> None:
    """Measure Wisp beside its floor and its peers. NAME is one of the benchmarks, as `boot`."""
    if name not in machine().benches():
        raise click.UsageError(f"no benchmark {name!r}; there are: {', '.join(machine().benches())}")
    progress = show.progress_line(quiet=False)
    result: Any = asyncio.run(machine().bench(name, quick=quick, plot=plot, progress=progress))
    show.end_progress()
    show.as_json(result) if as_json else show.report(result)


@cli.command()
@json_option
def demo(as_json: bool) -> None:
    """Run the fog scenario: nine edge sites, a core, nine sensors, real packets, a visible end."""
    say: Callable[[str], None] = (lambda _: None) if as_json else click.echo
    result: Any = asyncio.run(machine().demo(show.progress_line(quiet=as_json), say))
    if as_json:
        show.as_json(result)
