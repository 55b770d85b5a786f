"""Waiting until the controller has brought a cloud to what is wanted."""

import asyncio
from collections.abc import Callable, Sequence

from wisp.assembly.progress import ControllerState, follow
from wisp.assembly.settings import CloudFolder
from wisp.model.fault import Fault
from wisp.model.view import Progress
from wisp.primitives.errors import StateError, TransientDriverError

# Events that no waiting mends.
HOPELESS = ("plan-infeasible", "instance-refused")


async def until_settled(
    folder: CloudFolder, revision: int, progress: Callable[[Progress], None], timeout_s: float
) -> bool:
    """Have the controller look at what is wanted now, and wait until all of it answers; ``False`` if it does not.

    Raises:
        StateError: The controller found no plan, or an instance can never start as it is described.
        TransientDriverError: An instance failed again and again, or the controller ended.
    """
    try:
        async with asyncio.timeout(timeout_s):
            async for state in follow(folder.controller_socket, poke=True):
                progress(_progress_of(state))
                _raise_if_hopeless(state, revision)
                if state.settled and state.revision >= revision:
                    return True
    except TimeoutError:
        return False
    raise TransientDriverError(f"cloud {folder.name}: its controller ended; see {folder.logs / 'controller.log'}")


async def until_carried_out(folder: CloudFolder, faults: Sequence[Fault], timeout_s: float) -> bool:
    """Have the controller read which faults there are, and wait until the network shows them; ``False`` if it does not.

    Raises:
        TransientDriverError: The controller ended.
    """
    try:
        async with asyncio.timeout(timeout_s):
            async for state in follow(folder.controller_socket, poke=True):
                if state.faults == tuple(faults) and state.network_done:
                    return True
    except TimeoutError:
        return False
    raise TransientDriverError(f"cloud {folder.name}: its controller ended; see {folder.logs / 'controller.log'}")


def _progress_of(state: ControllerState) -> Progress:
    phase = "booting instances" if state.network_done else "making the network"
    note = state.events[-1].message if state.events else ""
    return Progress(phase=phase, done=state.ready, total=state.wanted, note=note)


def _raise_if_hopeless(state: ControllerState, revision: int) -> None:
    """Raise what no waiting mends.

    Raises:
        StateError: The controller found no plan, or an instance can never start as it is described.
        TransientDriverError: An instance failed again and again.
    """
    if state.failing and state.revision >= revision:
        lines = [f"{len(state.failing)} of {state.wanted} instances fail again and again:"]
        lines += [f"  {each}" for each in state.failing]
        lines.append(
            "they are tried on, ever more rarely; `wisp logs NAME` has their words, `wisp up FILE` a mended file"
        )
        raise TransientDriverError("\n".join(lines))
    for event in state.events:
        if event.what in HOPELESS:
            raise StateError(event.message)
