"""Tables, JSON and progress for the terminal."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from wisp.codec import stored
from wisp.model.observation import Event
from wisp.model.operation import Operation
from wisp.model.view import CloudStatus, Finding, InstanceRow, PlannedChange, Progress
from wisp.primitives.time import Instant

SIGN_COLOURS = {"+": "green", "-": "red", "~": "yellow"}
STATE_COLOURS = {"ready": "green", "ok": "green", "starting": "yellow", "limited": "yellow", "planned": "white"}

OPERATION_COLOURS = {"completed": "green", "processing": "yellow", "rolled_back": "yellow"}


def as_json(value: object) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(stored.to_builtins(value), indent=2, ensure_ascii=False))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print rows under headings; columns numbered in ``right`` are aligned to the right."""
    cells = [list(headings), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(click.unstyle(row[column])) for row in cells) for column in range(len(headings))]
    for number, row in enumerate(cells):
        line = "  ".join(_padded(cell, widths[i], i in right) for i, cell in enumerate(row)).rstrip()
        click.echo(click.style(line, bold=True) if number == 0 else line)


def _padded(cell: str, width: int, to_right: bool) -> str:
    space = " " * (width - len(click.unstyle(cell)))
    return space + cell if to_right else cell + space


def instances(rows: Sequence[InstanceRow]) -> None:
    """Print instances as a table."""
    table(
        ("INSTANCE", "KIND", "HOST", "ADDRESS", "STATE", "START ms", "MEMORY", "REASON"),
        [
            (
                row.name,
                row.kind,
                row.host,
                row.address or "-",
                _state(row.state),
                "-" if row.start_ms is None else f"{row.start_ms:.1f}",
                size(row.memory_bytes),
                row.reason,
            )
            for row in rows
        ],
        right=(5, 6),
    )


def _state(state: str) -> str:
    return click.style(state, fg=STATE_COLOURS.get(state, "red"))


def size(count: int | None) -> str:
    """Give a number of bytes as people read it."""
    if count is None:
        return "-"
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"


def imported(manifest: Mapping[str, Any]) -> None:
    """Print what an imported file is, and how a description names it."""
    told = {
        "name": manifest["name"],
        "size": size(manifest["size_bytes"]),
        "format": manifest["protocol"],
        "family": manifest["family"],
        "kind": manifest["kind"],
        "runs on": manifest["machine"],
        "digest": manifest["digest"],
    }
    for word, value in told.items():
        click.echo(f"{word:<8}{value}")
    click.echo(f'\nin a description:  images: {{NAME: {{file: "{manifest["digest"]}"}}}}')


def planned(change: PlannedChange) -> None:
    """Print what would change, then why everything goes where it goes."""
    if not change.changes:
        click.echo("nothing to change")
    for line in change.changes:
        click.echo(click.style(f"{line.sign} {line.subject}", fg=SIGN_COLOURS[line.sign]) + f"  {line.detail}")
    click.echo()
    for decision in change.decisions:
        click.echo(f"{decision.instance} → {decision.host}: {decision.reason}")
        for refusal in decision.refused:
            click.echo(click.style(f"    not {refusal.host}: {refusal.reason}", dim=True))


def status(found: CloudStatus) -> None:
    """Print a cloud's summary and its hosts."""
    click.echo(f"{found.name}: {click.style(found.state, bold=True)}: {found.sentence}")
    rows = [
        (
            host.name,
            host.site,
            str(host.instances),
            f"{host.cpu_used_millicores}/{host.cpu_millicores} m",
            f"{size(host.memory_used_bytes)} of {size(host.memory_bytes)}",
            "enforced" if host.quota_enforced else "accounted",
        )
        for host in found.hosts
    ]
    if rows:
        table(("HOST", "SITE", "INSTANCES", "CPU", "MEMORY", "QUOTA"), rows, right=(2, 3))


def operations(found: Sequence[Operation]) -> None:
    """Print life cycle operations, one a line."""
    rows = [
        (
            str(each.number),
            each.kind,
            each.subject,
            str(each.revision),
            click.style(each.state, fg=OPERATION_COLOURS.get(each.state, "red")),
            _clock(each.started_at),
            _took(each.started_at, each.ended_at),
            ", ".join(f"{phase.name} {_took(phase.started_at, phase.ended_at)}" for phase in each.phases),
            each.reason,
        )
        for each in found
    ]
    header = ("NUMBER", "OPERATION", "OF", "REVISION", "STATE", "AT", "TOOK", "PHASES", "REASON")
    table(header, rows, right=(0, 3, 6))


def _clock(at: Instant) -> str:
    return datetime.fromtimestamp(at.seconds, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]


def _took(begin: Instant, end: Instant | None) -> str:
    return "…" if end is None else f"{(end - begin).ms:.1f} ms"


def event(happened: Event) -> None:
    """Print one event."""
    colour = {"warning": "yellow", "error": "red"}.get(happened.severity)
    click.echo(
        f"{_clock(happened.at)}  {click.style(happened.what, fg=colour)}  {happened.subject}: {happened.message}"
    )


def findings(found: Sequence[Finding]) -> None:
    """Print what the machine can do."""
    for finding in found:
        click.echo(f"{_state(finding.state):<18} {finding.subject}: {finding.sentence}")
        if finding.remedy:
            click.echo(f"{'':9} → {finding.remedy}")


def report(result: dict[str, Any]) -> None:
    """Print a benchmark's figures."""
    table(
        ("FIGURE", "VALUE", "UNIT", "BAR", "HOLDS", "NOTE"),
        [
            (
                figure["name"],
                _value(figure["value"]),
                figure["unit"],
                figure["bar"],
                {True: "yes", False: click.style("no", fg="red"), None: "-"}[figure["holds"]],
                figure["note"],
            )
            for figure in result["figures"]
        ],
        right=(1,),
    )


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value(part)}" for key, part in value.items())
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def progress_line(*, quiet: bool) -> Callable[[Progress], None]:
    """Give a function that keeps one line of progress on a terminal, or prints each new phase elsewhere."""
    if quiet:
        return lambda _: None
    last = ""

    def show(progress: Progress) -> None:
        nonlocal last
        if sys.stderr.isatty():
            count = f" {progress.done}/{progress.total}" if progress.total > 1 else ""
            click.echo(f"\r\x1b[K{progress.phase}{count}  {progress.note}"[:160], nl=False, err=True)
        elif progress.phase != last:
            click.echo(progress.phase, err=True)
        last = progress.phase

    return show


def end_progress() -> None:
    """Clear the progress line."""
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
