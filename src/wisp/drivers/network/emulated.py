"""The network driver of emulated clouds.

Only what the keeper holds exists: a namespace or tap is made, set up, and handed to the keeper last; if the
controller dies before that, the kernel takes it away with the controller's descriptors.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from errno import EACCES, EAGAIN, EBUSY, EEXIST, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC, EPERM
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from wisp.drivers.keeper.client import KeeperClient
from wisp.drivers.keeper.delay import DelayLine
from wisp.drivers.network.contents import assemble, interfaces_of, queue_number
from wisp.drivers.network.kernel import Kernel
from wisp.drivers.network.shaping import DelayProgram, Side, delay_line, directions, rules_of
from wisp.model.action import (
    CreateLink,
    CreateNamespace,
    CreateTap,
    NetworkAction,
    RemoveLink,
    RemoveNamespace,
    RemoveTap,
    RemoveVirtualAddress,
    SetRoutes,
    SetVirtualAddress,
    ShapeLink,
    SwitchLink,
)
from wisp.model.counters import Counters
from wisp.model.effect import NetworkState
from wisp.model.network import Network, VirtualLink
from wisp.primitives.errors import DriverError, PermanentDriverError, TransientDriverError, WispError

log = logging.getLogger(__name__)

_NAMESPACE, _TAP = "netns/", "tap/"
_TEMPORARY = {EAGAIN, EBUSY, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM}
_ADVICE = {
    EPERM: "the controller must be root in the cloud's user namespace: start the cloud with `wisp up`",
    EACCES: "the controller must be root in the cloud's user namespace: start the cloud with `wisp up`",
    EMFILE: "raise the limit of open files (`ulimit -n`)",
    ENOSPC: "raise the limit of namespaces (`sysctl user.max_net_namespaces`)",
    EEXIST: "something else made it meanwhile; it is tried again after the next look",
}
_P = ParamSpec("_P")
_T = TypeVar("_T")
_Handler = Callable[[Sequence[Any], NetworkState], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Sight:
    """What was seen.

    Attributes:
        network: What is whole.
        interfaces: All (namespace, name), whether part of the network or not.
        idle_taps: What the keeper holds of taps that are not (or no longer) part of it.
    """

    network: Network
    interfaces: frozenset[tuple[str, str]]
    idle_taps: tuple[str, ...]


class EmulatedNetwork:
    """Implements :class:`wisp.ports.network.NetworkDriver` with namespaces, veth pairs and taps of this machine.

    Runs inside the cloud's user namespace, as its root. Must be made inside a running event loop.

    Args:
        keeper: Holds every namespace and tap.
        native: ``wisp-native``, for the delay line.
        log: Where the delay line's words go.
    """

    def __init__(self, keeper: KeeperClient, *, native: Path, log: Path) -> None:
        self._keeper = keeper
        self._delay = DelayProgram(keeper, native, log)
        self._kernel = Kernel()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="network")
        self._lock = asyncio.Lock()
        # Namespaces that are taken away by what is being carried out.
        self._going: frozenset[str] = frozenset()
        self._handlers: dict[type, _Handler] = {
            CreateNamespace: self._create_namespaces,
            RemoveNamespace: self._remove_namespaces,
            CreateLink: self._create_links,
            ShapeLink: self._shape_links,
            SwitchLink: self._switch_links,
            RemoveLink: self._remove_links,
            CreateTap: self._create_taps,
            RemoveTap: self._remove_taps,
            SetRoutes: self._set_routes,
            SetVirtualAddress: self._write_members,
            RemoveVirtualAddress: self._write_members,
        }

    def close(self) -> None:
        """Let go of everything; what the keeper holds stays."""
        self._delay.close()
        self._thread.shutdown()
        self._kernel.close()

    async def apply(self, actions: Sequence[NetworkAction]) -> None:
        """Carry out ``actions`` in order, neighbours of one kind together; see the port."""
        async with self._lock:
            before = await self._look()
            await self._keeper.release(before.idle_taps)
            await self._blocking(self._kernel.remove_idle_hops)
            undo: list[tuple[NetworkAction, ...]] = []
            try:
                going = frozenset(action.name for action in actions if isinstance(action, RemoveNamespace))
                await self._carry_out(actions, NetworkState(before.network), undo, going)
            except BaseException as error:
                await asyncio.shield(self._undo(before, undo, error))
                raise

    async def observe(self) -> Network:
        """Read back what exists, from the kernel."""
        async with self._lock:
            return (await self._look()).network

    async def counters(self) -> dict[tuple[str, str], Counters]:
        """Give what went through every interface, by namespace and interface name."""
        async with self._lock:
            return await self._blocking(self._kernel.counters)

    async def connections(self) -> dict[tuple[str, str], int]:
        """Give how many connections came since its members last changed, by namespace and virtual address."""
        async with self._lock:
            return await self._blocking(self._kernel.connections)

    async def socket_in(self, namespace: str) -> socket.socket:
        """Give a TCP socket inside a namespace; connecting and sending do not block.

        Raises:
            PermanentDriverError: There is no such namespace.
        """
        self._need(namespace, "socket")
        return await self._blocking(self._kernel.socket_in, namespace, _tcp_socket)

    async def listeners(
        self, namespace: str, address: str, port: int
    ) -> tuple[socket.socket, socket.socket, socket.socket]:
        """Give sockets of a namespace: UDP and TCP at an address that it then has, and one to ask others from (UDP).

        Raises:
            PermanentDriverError: There is no such namespace.
        """
        self._need(namespace, "listen")
        await self._blocking(self._kernel.add_own_address, namespace, f"{address}/32")

        async def make(kind: socket.SocketKind, bind: bool) -> socket.socket:
            return await self._blocking(self._kernel.socket_in, namespace, partial(_bound, kind, address, port, bind))

        return (
            await make(socket.SOCK_DGRAM, True),
            await make(socket.SOCK_STREAM, True),
            await make(socket.SOCK_DGRAM, False),
        )

    async def farewell(self, namespace: str, interface: str, mac: str) -> None:
        """Tell the guest behind a tap to finish what it has, and to end once nobody is connected; it does not answer.

        Args:
            namespace: Of the guest's host.
            interface: The host's end of the tap.
            mac: The guest's hardware address.

        Raises:
            PermanentDriverError: There is no such namespace or interface.
            TransientDriverError: The tap is full.
        """
        self._need(namespace, "farewell")
        await self._blocking(self._kernel.farewell, namespace, interface, mac)

    def _need(self, namespace: str, operation: str) -> None:
        if namespace not in self._kernel.knows():
            raise PermanentDriverError(
                f"namespace {namespace} does not exist (yet)", driver="network", operation=operation, subject=namespace
            )

    async def _carry_out(
        self,
        actions: Iterable[NetworkAction],
        state: NetworkState,
        undo: list[tuple[NetworkAction, ...]],
        going: frozenset[str] = frozenset(),
    ) -> None:
        self._going = going
        for kind, group in groupby(_in_steps(actions, state), type):
            changing = []
            for action in group:
                if way_back := state.apply(action):
                    changing.append(action)
                    undo.append(way_back)
            if changing:
                await self._handlers[kind](changing, state)

    async def _undo(self, before: _Sight, undo: list[tuple[NetworkAction, ...]], error: BaseException) -> None:
        """Bring back as much of what was as can be; the rest is left to the next reconcile."""
        try:
            now = await self._look()
            await self._blocking(self._kernel.remove_interfaces, _half_made(before, now))
        except WispError as failure:
            _note(error, failure)
            return
        state = NetworkState(now.network)
        for way_back in reversed(undo):
            try:
                await self._carry_out(way_back, state, [])
            except WispError as failure:
                _note(error, failure)

    async def _look(self) -> _Sight:
        held = await self._keeper.held()
        await self._open_namespaces({name.removeprefix(_NAMESPACE) for name in held if name.startswith(_NAMESPACE)})
        contents = await self._blocking(self._kernel.look)
        taps = [name.removeprefix(_TAP) for name in held if name.startswith(_TAP)]
        network = assemble(contents, held_taps=taps, lines=await self._delay.running())
        interfaces = frozenset((name, each.name) for name, one in contents.items() for each in one.interfaces.values())
        whole = {tap.name for tap in network.taps}
        return _Sight(network, interfaces, tuple(_TAP + name for name in taps if name not in whole))

    async def _open_namespaces(self, held: set[str]) -> None:
        for name in self._kernel.knows() - held:
            await self._blocking(self._kernel.drop, name)
        missing = sorted(held - self._kernel.knows())
        if missing:
            descriptors = await self._keeper.fetch([_NAMESPACE + name for name in missing])
            await self._blocking(self._kernel.adopt, dict(zip(missing, descriptors, strict=True)))

    async def _create_namespaces(self, actions: Sequence[CreateNamespace], _state: NetworkState) -> None:
        namespaces = [action.namespace for action in actions]
        try:
            made = await self._blocking(self._kernel.create_namespaces, namespaces)
            await self._keeper.hold({_NAMESPACE + name: netns for name, netns in made.items()})
        except BaseException:
            for namespace in namespaces:
                await self._blocking(self._kernel.drop, namespace.name)
            raise

    async def _remove_namespaces(self, actions: Sequence[RemoveNamespace], _state: NetworkState) -> None:
        await self._keeper.release([_NAMESPACE + action.name for action in actions])
        for action in actions:
            await self._blocking(self._kernel.drop, action.name)

    async def _create_links(self, actions: Sequence[CreateLink], state: NetworkState) -> None:
        links = [action.link for action in actions]
        await self._blocking(self._kernel.create_links, links)
        if shaped := [link for link in links if not link.is_plain]:
            await self._put_in_force(shaped, state)
        if off := [link for link in links if link.is_down]:
            await self._blocking(self._kernel.switch_links, off)

    async def _switch_links(self, actions: Sequence[SwitchLink], _state: NetworkState) -> None:
        await self._blocking(self._kernel.switch_links, [action.link for action in actions])

    async def _shape_links(self, actions: Sequence[ShapeLink], state: NetworkState) -> None:
        links = [action.link for action in actions]
        await self._blocking(self._kernel.limit_links, links)
        await self._put_in_force(links, state)

    async def _remove_links(self, actions: Sequence[RemoveLink], state: NetworkState) -> None:
        links = [action.link for action in actions]
        # A line keeps its namespace alive, and would serve whichever link gets its interface's number next.
        await self._delay.remove([side.line for link in links for side in directions(link)])
        # The kernel takes away by itself what joins namespaces that go, all at once: one by one takes 20 times as long.
        kept = [link for link in links if not {link.a.namespace, link.b.namespace} <= self._going]
        await self._blocking(self._kernel.remove_links, kept)
        await self._write_rules(kept, state)

    async def _put_in_force(self, links: Sequence[VirtualLink], state: NetworkState) -> None:
        """Have links delay as they say, and only then write on them that they do."""
        sides = [side for link in links for side in directions(link)]
        await self._delay.remove([side.line for side in sides if not side.shape.is_delayed])
        await self._delay.set([self._line(side) for side in sides if side.shape.is_delayed])
        await self._write_rules(links, state)
        await self._blocking(self._kernel.mark_links, links)

    def _line(self, side: Side) -> DelayLine:
        namespace = side.end.namespace
        queue = queue_number(self._kernel.index(namespace, side.end.interface), leaving=side.leaving)
        return delay_line(side.line, self._kernel.netns(namespace), queue, side.shape)

    async def _write_rules(self, links: Iterable[VirtualLink], state: NetworkState) -> None:
        touched = {end.namespace for link in links for end in (link.a, link.b)} & self._kernel.knows()
        rules = {name: rules_of(name, state.links_at(name), self._kernel.index) for name in touched}
        await self._blocking(self._kernel.write_rules, rules)

    async def _create_taps(self, actions: Sequence[CreateTap], _state: NetworkState) -> None:
        made = await self._blocking(self._kernel.create_taps, [action.tap for action in actions])
        try:
            held = {_TAP + name: descriptor for name, descriptor in made.items()}
            await self._keeper.release(list(held))
            await self._keeper.hold(held)
        finally:
            for descriptor in made.values():
                os.close(descriptor)

    async def _remove_taps(self, actions: Sequence[RemoveTap], _state: NetworkState) -> None:
        taps = [action.tap for action in actions]
        await self._blocking(self._kernel.remove_interfaces, [(tap.namespace, tap.interface) for tap in taps])
        await self._keeper.release([_TAP + tap.name for tap in taps])

    async def _set_routes(self, actions: Sequence[SetRoutes], state: NetworkState) -> None:
        for _, turn in groupby(actions, lambda action: action.turn):
            changes = [(each.namespace, _own_address(state, each.namespace), each.routes) for each in turn]
            await self._blocking(self._kernel.set_routes, changes)

    async def _write_members(
        self, actions: Sequence[SetVirtualAddress | RemoveVirtualAddress], state: NetworkState
    ) -> None:
        for name in dict.fromkeys(action.virtual_address.namespace for action in actions):
            source = _own_address(state, name)
            await self._blocking(self._kernel.write_members, name, source, state.members_at(name))

    async def _blocking(self, call: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
        """Have the network thread do something that blocks; the kernel's refusals become the port's errors."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, partial(call, *arguments, **named))
        except OSError as error:
            raise _translated(error) from error


def _in_steps(actions: Iterable[NetworkAction], state: NetworkState) -> Iterator[NetworkAction]:
    """Say actions as the kernel needs them, each in view of the state that those before it led to."""
    for action in actions:
        match action:
            case RemoveNamespace(name=name):
                # The kernel would take away what is in it too, but some time later.
                yield from [RemoveTap(tap=tap) for tap in state.taps_at(name)]
                yield from [RemoveLink(link=link) for link in state.links_at(name)]
                yield action
            case CreateLink(link=link) if link.name in state.links:
                yield ShapeLink(link=link)
            case _:
                yield action


def _own_address(state: NetworkState, namespace: str) -> str:
    return (state.namespaces[namespace].address or "").partition("/")[0]


def _translated(error: OSError) -> DriverError:
    message = (
        f"{error.strerror or error}; {_ADVICE.get(error.errno or 0, '`wisp doctor` says what this machine can do')}"
    )
    kind = TransientDriverError if error.errno in _TEMPORARY else PermanentDriverError
    return kind(message, driver="network", operation="apply")


def _note(error: BaseException, failure: WispError) -> None:
    error.add_note(f"undoing it failed as well: {failure}")
    log.warning("undoing a failed change of the network failed: %s", failure)


def _half_made(before: _Sight, now: _Sight) -> frozenset[tuple[str, str]]:
    """Give the interfaces that came in between and are part of nothing; new namespaces go as a whole."""
    rooms = {namespace.name for namespace in before.network.namespaces}
    came = now.interfaces - before.interfaces - interfaces_of(now.network.links, now.network.taps)
    return frozenset((namespace, interface) for namespace, interface in came if namespace in rooms)


def _bound(kind: socket.SocketKind, address: str, port: int, bind: bool) -> socket.socket:
    made = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)
    try:
        if bind:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((address, port))
            if kind is socket.SOCK_STREAM:
                made.listen(128)
    except OSError:
        made.close()
        raise
    return made


def _tcp_socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
