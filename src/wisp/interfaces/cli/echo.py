"""The commands that ask for the way through a cloud; see ``commands``."""

import asyncio
from collections.abc import Sequence

import click

from wisp.interfaces.cli import show
from wisp.interfaces.cli.commands import chosen, cloud_option, json_option
from wisp.interfaces.cli.fault import cli
from wisp.interfaces.facade import CloudFacade
from wisp.model.echo import MAX_REQUESTS, EchoAnswer, EchoOutcome, Hop, PingSummary, summary

__all__ = ["cli"]

UNREACHED = 1


@cli.command()
@click.argument("begin", metavar="FROM")
@click.argument("end", metavar="TO")
@click.option("-n", "--count", type=click.IntRange(1, MAX_REQUESTS), default=5, show_default=True, help="How many.")
@click.option(
    "-i", "--interval", "interval_s", type=click.FloatRange(0, 3600), default=0.2, show_default=True, help="Pause [s]."
)
@click.option(
    "-W",
    "--patience",
    "patience_s",
    type=click.FloatRange(0, 3600),
    default=2.0,
    show_default=True,
    help="How long one is waited for [s].",
)
@click.option("-6", "--ipv6", is_flag=True, help="Ask for the IPv6 address.")
@cloud_option
@json_option
def ping(
    begin: str,
    end: str,
    count: int,
    interval_s: float,
    patience_s: float,
    ipv6: bool,
    cloud_name: str | None,
    as_json: bool,
) -> None:
    """Send echo requests from FROM to TO and time the answers; ends with 1 if none comes.

    FROM is a host, router, device or instance, TO the same or an address. A unikernel's requests come from its host.
    """
    cloud = chosen(cloud_name)
    answers = asyncio.run(_ping(cloud, begin, end, count, interval_s, patience_s, ipv6, quiet=as_json))
    found = summary(answers)
    if as_json:
        show.as_json({"from": begin, "to": end, "summary": found, "answers": answers})
    else:
        click.echo(_summed(found))
    if not found.received:
        raise SystemExit(UNREACHED)


async def _ping(
    cloud: CloudFacade,
    begin: str,
    end: str,
    count: int,
    interval_s: float,
    patience_s: float,
    ipv6: bool,
    *,
    quiet: bool,
) -> list[EchoAnswer]:
    found = []
    async for answer in cloud.ping(begin, end, count=count, interval_s=interval_s, patience_s=patience_s, ipv6=ipv6):
        found.append(answer)
        if not quiet:
            click.echo(_answered(answer))
    return found


def _answered(answer: EchoAnswer) -> str:
    who = answer.by or "nobody"
    match answer.outcome:
        case EchoOutcome.REPLY:
            return f"{answer.number + 1}: {who} answers after {answer.round_trip_ms:.3f} ms"
        case EchoOutcome.LOST:
            return click.style(f"{answer.number + 1}: no answer", fg="yellow")
        case EchoOutcome.UNREACHABLE if answer.by is None:
            return click.style(f"{answer.number + 1}: there is no way from here", fg="red")
        case EchoOutcome.UNREACHABLE:
            return click.style(f"{answer.number + 1}: {who} knows no way on", fg="red")
        case EchoOutcome.EXPIRED:
            return click.style(f"{answer.number + 1}: too many hops, ended at {who}", fg="red")


def _summed(found: PingSummary) -> str:
    told = f"{found.received} of {found.sent} answered, {found.lost_percent:g} % lost"
    if found.median_ms is None:
        return told
    return f"{told}; {found.shortest_ms:.3f} / {found.median_ms:.3f} / {found.longest_ms:.3f} ms (least, median, most)"


@cli.command()
@click.argument("begin", metavar="FROM")
@click.argument("end", metavar="TO")
@click.option(
    "-W",
    "--patience",
    "patience_s",
    type=click.FloatRange(0, 3600),
    default=1.0,
    show_default=True,
    help="How long to wait for those that do not answer [s].",
)
@click.option("-6", "--ipv6", is_flag=True, help="Ask for the IPv6 address.")
@cloud_option
@json_option
def trace(begin: str, end: str, patience_s: float, ipv6: bool, cloud_name: str | None, as_json: bool) -> None:
    """Show the way from FROM to TO, hop by hop, with the delay of each; ends with 1 if it does not get there.

    Round trips are the shortest of three. Of several ways of equal cost it shows the one that echo requests take.
    """
    hops = asyncio.run(chosen(cloud_name).trace(begin, end, patience_s=patience_s, ipv6=ipv6))
    gets_there = bool(hops) and hops[-1].outcome is EchoOutcome.REPLY
    if as_json:
        show.as_json({"from": begin, "to": end, "gets_there": gets_there, "hops": hops})
    else:
        _show_way(begin, end, hops, gets_there)
    if not gets_there:
        raise SystemExit(UNREACHED)


def _show_way(begin: str, end: str, hops: Sequence[Hop], gets_there: bool) -> None:
    if hops:
        headings = ("HOP", "AT", "OVER", "ROUND TRIP ms", "ADDED ms")
        show.table(headings, [_row(hop) for hop in hops], right=(0, 3, 4))
    if not gets_there:
        click.echo(click.style(_why(begin, end, hops), fg="red"))


def _why(begin: str, end: str, hops: Sequence[Hop]) -> str:
    """Say why it does not get there."""
    last = hops[-1].name if hops else begin
    if hops and hops[-1].outcome is EchoOutcome.UNREACHABLE:
        return f"{last} knows no way to {end}"
    return f"nothing comes back from beyond {last}"


def _row(hop: Hop) -> tuple[str, ...]:
    times = (hop.round_trip_ms, hop.added_ms)
    return (
        str(hop.number),
        hop.name or "no answer",
        " or ".join(hop.links) or "-",
        *("-" if time is None else f"{time:.3f}" for time in times),
    )
