"""The commands that break things; see ``commands``."""

import asyncio
from collections.abc import Sequence

import click

from wisp.codec.units import DELAY, RATE, RATIO, TIME, Quantity
from wisp.interfaces.cli import show
from wisp.interfaces.cli.commands import chosen, cloud_option, json_option
from wisp.interfaces.cli.network import cli
from wisp.model.fault import Degradation, Fault, FaultAction, FaultKind
from wisp.primitives.time import Duration

__all__ = ["cli"]

ACTIONS = ("up", *(str(each) for each in FaultAction))


@cli.group()
def fault() -> None:
    """Break links, hosts, sites and processes on purpose, and mend them."""


@fault.command("ls")
@cloud_option
@json_option
def fault_ls(cloud_name: str | None, as_json: bool) -> None:
    """List what is broken on purpose."""
    _show(chosen(cloud_name).faults(), as_json)


def _breaks(kind: FaultKind, says: str) -> None:
    """Add the command that breaks things of one kind."""

    @fault.command(str(kind), help=says)
    @click.argument("name")
    @click.argument("action", type=click.Choice(ACTIONS))
    @click.option("--period", metavar="TIME", help="With flap: how long it is down, and then up, as 5s.")
    @click.option("--delay", metavar="TIME", help="With degrade: what is added to its delay, as 50ms.")
    @click.option("--loss", metavar="RATIO", help="With degrade: what is lost, as 10%.")
    @click.option("--rate", metavar="RATE", help="With degrade: the most that passes, as 1Mbit.")
    @cloud_option
    @json_option
    def break_it(
        name: str,
        action: str,
        period: str | None,
        delay: str | None,
        loss: str | None,
        rate: str | None,
        cloud_name: str | None,
        as_json: bool,
    ) -> None:
        period_us = _amount(TIME, period)
        found = asyncio.run(
            chosen(cloud_name).fault(
                kind,
                name,
                action,
                period_s=None if period_us is None else Duration.of_us(period_us).seconds,
                degradation=_degradation(delay, loss, rate),
            )
        )
        _show(found, as_json)


def _degradation(delay: str | None, loss: str | None, rate: str | None) -> Degradation | None:
    if delay is loss is rate is None:
        return None
    return Degradation(
        delay_us=_amount(DELAY, delay) or 0, loss_ppm=_amount(RATIO, loss) or 0, rate_bps=_amount(RATE, rate)
    )


def _amount(quantity: Quantity, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return quantity.parse(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _show(faults: Sequence[Fault], as_json: bool) -> None:
    if as_json:
        show.as_json(faults)
    elif not faults:
        click.echo("nothing is broken on purpose")
    else:
        show.table(("WHAT", "NAME", "FAULT"), [(each.kind, each.name, _words(each)) for each in faults])


def _words(fault: Fault) -> str:
    words = [str(fault.action)]
    if fault.period is not None:
        words.append(f"every {fault.period.seconds:g} s")
    if worse := fault.degradation:
        words += [f"+{worse.delay_us / 1000:g} ms"] if worse.delay_us else []
        words += [f"{worse.loss_ppm / 1e4:g} % loss"] if worse.loss_ppm else []
        words += [f"{worse.rate_bps / 1e6:g} Mbit/s"] if worse.rate_bps is not None else []
    return " ".join(words)


_breaks(FaultKind.LINK, "Break the link NAME (a device's name: its access link), or mend it.")
_breaks(FaultKind.HOST, "Take the power of the host NAME, or give it back; what ran there is started elsewhere.")
_breaks(FaultKind.SITE, "Take the power of all hosts of the site NAME, or give it back.")
_breaks(FaultKind.PROCESS, "Kill the instance NAME and keep it down, or let it start again.")
