"""The sockets of doors: bound out here, where the machine's ports are, and held by the keeper for relays inside."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from wisp.assembly.inside import bind
from wisp.assembly.settings import CloudFolder
from wisp.drivers.keeper.client import KeeperClient
from wisp.drivers.keeper.process import living_keeper
from wisp.model.instance import DOOR_PREFIX, Door
from wisp.primitives.errors import StateError


async def held_names(folder: CloudFolder) -> frozenset[str]:
    """Give what the keeper of a cloud holds; nothing when there is none."""
    if living_keeper(folder.path) is None:
        return frozenset()
    async with await KeeperClient.connect(folder.path) as keeper:
        return frozenset(await keeper.held())


@contextmanager
def opened(doors: Sequence[Door], held: frozenset[str]) -> Iterator[dict[str, int]]:
    """Give a bound socket, by its name, for every door that has none yet; they are closed again at the end.

    Raises:
        StateError: A port is in use, or its address is not this machine's; nothing stays bound.
    """
    with ExitStack() as stack:
        yield {door.socket: stack.enter_context(_bound(door)).fileno() for door in doors if door.socket not in held}


async def shut_unwanted(keeper: KeeperClient, doors: Sequence[Door]) -> None:
    """Have the keeper let go of the sockets of doors that are not declared any more; relays end by themselves."""
    wanted = {door.socket for door in doors}
    await keeper.release([name for name in await keeper.held() if name.startswith(DOOR_PREFIX) and name not in wanted])


def _bound(door: Door) -> socket.socket:
    kind = socket.SOCK_STREAM if door.protocol == "tcp" else socket.SOCK_DGRAM
    try:
        return bind(door.listen, kind)
    except StateError as error:
        raise StateError(
            f"{door.listen}/{door.protocol} cannot be opened for {door.to[0]}: {error.__cause__}; "
            "choose another port in the description, or end what uses it; nothing was changed"
        ) from error
