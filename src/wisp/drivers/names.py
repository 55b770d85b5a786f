"""DNS servers of a cloud: one ``wisp-native dns`` for all hosts, with a pair of sockets in each host's namespace.

The keeper holds the sockets, so queries wait in them while one server takes over from another; each knows one zone.
"""

import hashlib
import signal
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from wisp.drivers.instance.kept import child_name
from wisp.drivers.keeper.client import KeeperClient, SpawnOrder
from wisp.drivers.keeper.memory import in_memory
from wisp.model.instance import InstanceSpec
from wisp.model.zone import Zone
from wisp.primitives.errors import PermanentDriverError

CHILD_PREFIX = "dns@"
_HELD_PREFIX = "dns/"
_ZONE = f"{_HELD_PREFIX}zone"
_ZONE_DESCRIPTOR, _WAKER_DESCRIPTOR, _FIRST_SOCKET = 3, 4, 5
_SOCKETS = ("udp", "tcp", "upstream")


class NameServers:
    """Implements :class:`wisp.ports.names.NameService`.

    Args:
        keeper: Holds the sockets and runs the server.
        listeners: Makes the three sockets of a namespace: one that is bound, one that listens, one to ask others from.
        native: ``wisp-native``.
        log: Where the server's words go.
    """

    def __init__(
        self,
        keeper: KeeperClient,
        listeners: Callable[[str], Awaitable[tuple[socket.socket, socket.socket, socket.socket]]],
        *,
        native: Path,
        log: Path,
    ) -> None:
        self._keeper, self._listeners, self._native, self._log = keeper, listeners, native, log

    async def serve(self, zone: Zone, specs: Sequence[InstanceSpec]) -> None:
        """Answer with this zone from now on; see the port."""
        hosts = sorted(zone.servers)
        numbers = {
            _held_name(zone.servers[host], kind): _FIRST_SOCKET + len(_SOCKETS) * index + place
            for index, host in enumerate(hosts)
            for place, kind in enumerate(_SOCKETS)
        }
        wakes = {spec.name: child_name(spec) for spec in specs if spec.is_summoned}
        document = msgspec.json.encode(_document(zone, hosts, numbers, wakes))
        child = CHILD_PREFIX + hashlib.sha256(document).hexdigest()[:12]
        servers = [row for row in await self._keeper.children() if row.id.startswith(CHILD_PREFIX)]
        held = set(await self._keeper.held())
        if any(row.id == child and row.state == "running" for row in servers) and held.issuperset(numbers):
            return
        for host in hosts:
            if _held_name(zone.servers[host], _SOCKETS[0]) not in held:
                await self._open(zone.servers[host])
        with in_memory("zone", document) as descriptor:
            await self._keeper.release([_ZONE])
            await self._keeper.hold({_ZONE: descriptor})
        await self._end([row.id for row in servers if row.id == child])
        await self._keeper.spawn(
            SpawnOrder(
                child_id=child,
                argv=(str(self._native), "dns"),
                held={_ZONE_DESCRIPTOR: _ZONE, **{number: name for name, number in numbers.items()}},
                waker=_WAKER_DESCRIPTOR,
                restart=True,
                log=self._log,
            )
        )
        await self._end([row.id for row in servers if row.id != child])
        await self._keeper.release([n for n in held if n.startswith(_HELD_PREFIX) and n != _ZONE and n not in numbers])

    async def withdraw(self, namespaces: Collection[str]) -> None:
        """Let go of these namespaces; see the port."""
        held = await self._keeper.held()
        if any(_held_name(namespace, _SOCKETS[0]) in held for namespace in namespaces):
            await self._end([row.id for row in await self._keeper.children() if row.id.startswith(CHILD_PREFIX)])
            await self._keeper.release([name for name in held if name.startswith(_HELD_PREFIX)])

    async def _open(self, namespace: str) -> None:
        made = await self._listeners(namespace)
        names = [_held_name(namespace, kind) for kind in _SOCKETS]
        try:
            await self._keeper.release(names)
            await self._keeper.hold({name: one.fileno() for name, one in zip(names, made, strict=True)})
        finally:
            for one in made:
                one.close()

    async def _end(self, children: Sequence[str]) -> None:
        for child in children:
            with suppress(PermanentDriverError):  # it has ended by itself
                await self._keeper.signal(child, signal.SIGKILL)
            with suppress(PermanentDriverError):  # it is just ending; its next successor forgets it
                await self._keeper.forget(child)


def _held_name(namespace: str, kind: str) -> str:
    return f"{_HELD_PREFIX}{namespace}/{kind}"


def _document(zone: Zone, hosts: Sequence[str], numbers: Mapping[str, int], wakes: Mapping[str, str]) -> dict[str, Any]:
    """Give the zone as ``wisp-native dns`` reads it."""
    return {
        "zone": zone.name,
        "ttl_s": zone.ttl_s,
        # Nobody transfers the zone, so its number tells nobody anything.
        "serial": 1,
        "upstreams": zone.upstreams,
        "servers": [
            {"host": host} | {kind: numbers[_held_name(zone.servers[host], kind)] for kind in _SOCKETS}
            for host in hosts
        ],
        "instances": {
            each.name: {"a": each.address, "aaaa": each.address6, "host": each.host, "wake": wakes.get(each.name)}
            for each in zone.instances
        },
        "names": {each.name: {"instances": each.instances, "services": dict(each.services)} for each in zone.names},
        "delays_us": zone.delays_us,
    }
