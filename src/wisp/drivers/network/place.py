"""One network namespace of ours: its descriptor, its netlink socket, its kernel settings, its taps."""

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from wisp.drivers.network.netlink import NetlinkSocket
from wisp.primitives.errors import MissingPrerequisite

_CLONE_NEWNET = 0x4000_0000
_TUN = Path("/dev/net/tun")
_TUNSETIFF, _TUNSETIFINDEX = 0x4004_54CA, 0x4004_54DA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_TUNATTACHFILTER = 0x4010_54D5
_SETTINGS = Path("/proc/sys/net")
_libc = ctypes.CDLL(None, use_errno=True)

# New namespaces copy the machine's IPv4 settings, which may be anything: say all that we rely on.
_COMMON = {
    "ipv4/conf/all/rp_filter": "0",  # there and back may be different ways
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/conf/lo/rp_filter": "0",  # there we look whether a namespace is strict
    "ipv4/conf/all/proxy_arp": "0",
    "ipv4/conf/default/proxy_arp": "0",
    "ipv4/conf/all/arp_ignore": "0",  # addresses live on the loopback interface
    "ipv4/conf/all/arp_announce": "2",  # guests drop questions from outside of their subnet
    "ipv4/ping_group_range": "0 0",  # in a cloud everybody's group is 0
    "ipv6/conf/default/accept_dad": "0",  # addresses hold at once
    "ipv6/conf/default/accept_ra": "0",  # and come from nobody but us
}
_STAYS = {
    "ipv4/ip_forward": "0",
    "ipv4/ip_unprivileged_port_start": "0",  # all ports are its own, also for those who may do nothing
}
_FORWARDS = {
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
    "ipv4/icmp_ratelimit": "10",  # ms between errors told to the same address: with 1000 only one trace a second goes
    "ipv6/icmp/ratelimit": "10",
}
_STRICT = {
    "ipv4/conf/all/rp_filter": "1",
    "ipv4/conf/lo/rp_filter": "1",
    "ipv4/conf/default/proxy_arp": "1",  # the NAT asks on its own wire for everybody it answers to
}


def _instructions(*instructions: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("=HBBI", *each) for each in instructions)


_LOAD_HALF, _LOAD_BYTE, _EQUAL, _ANY_BIT, _RETURN = 0x28, 0x30, 0x15, 0x45, 0x06
# A classic BPF program: what hosts tell everybody on a wire of their own accord never reaches a guest, as it would
# wake one that sleeps. ARP, what is for it alone, and the question who it is (ICMPv6 135, RFC 4861) do.
_FILTER = _instructions(
    (_LOAD_HALF, 0, 0, 12),
    (_EQUAL, 6, 0, 0x0806),
    (_LOAD_BYTE, 0, 0, 0),
    (_ANY_BIT, 0, 4, 1),
    (_LOAD_HALF, 0, 0, 12),
    (_EQUAL, 0, 3, 0x86DD),
    (_LOAD_BYTE, 0, 0, 54),
    (_EQUAL, 0, 1, 135),
    (_RETURN, 0, 0, 0xFFFF),
    (_RETURN, 0, 0, 0),
)
_FILTER_MEMORY = ctypes.create_string_buffer(_FILTER, len(_FILTER))
_FOR_GUESTS = struct.pack("=H6xQ", len(_FILTER) // 8, ctypes.addressof(_FILTER_MEMORY))


@dataclass(frozen=True, slots=True)
class TapOrder:
    """A tap that shall be: interface name and index, both free so far."""

    interface: str
    index: int


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace that is open.

    Attributes:
        netns: Descriptor of the namespace.
        netlink: Socket inside it.
    """

    netns: int
    netlink: NetlinkSocket

    def close(self) -> None:
        """Let go of it; it lives on while anybody else holds it."""
        self.netlink.close()
        os.close(self.netns)


def has_ipv6() -> bool:
    """Tell whether the kernel speaks IPv6 at all."""
    return Path("/proc/net/if_inet6").exists()


def home() -> int:
    """Give a descriptor of the network namespace that the calling thread is in; the caller closes it."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def inside(netns: int, back_to: int) -> Iterator[None]:
    """Have the calling thread inside a namespace for a while.

    Raises:
        OSError: The kernel refused.
    """
    _enter(netns)
    try:
        yield
    finally:
        # Staying would keep the namespace alive for as long as the thread lives.
        _enter(back_to)


def inherited(back_to: int) -> Mapping[str, str]:
    """Give what settings a new namespace has here before we say anything.

    Raises:
        OSError: The kernel refused.
    """
    if _libc.unshare(_CLONE_NEWNET) != 0:
        raise _last_error("making a network namespace")
    try:
        names = (name for name in _COMMON | _FORWARDS | _STRICT if (_SETTINGS / name).exists())
        return {name: (_SETTINGS / name).read_text().replace("\t", " ").strip() for name in names}
    finally:
        _enter(back_to)


def make(
    back_to: int, *, forwards: bool, strict: bool = False, inherits: Mapping[str, str] = MappingProxyType({})
) -> Place:
    """Make a namespace with our settings; the calling thread comes back.

    Args:
        back_to: Namespace of the calling thread.
        forwards: Whether it routes for others.
        strict: Whether it takes a packet only from where it would send the answer.
        inherits: What it need not be told, see :func:`inherited`.

    Raises:
        OSError: The kernel refused.
    """
    if _libc.unshare(_CLONE_NEWNET) != 0:
        raise _last_error("making a network namespace")
    try:
        netns = home()
        try:
            wanted = _wanted(forwards, strict).items()
            _configure(each for each in wanted if each not in inherits.items())
            return Place(netns, NetlinkSocket())
        except BaseException:
            os.close(netns)
            raise
    finally:
        _enter(back_to)


def open_place(netns: int, back_to: int) -> Place:
    """Open a namespace by its descriptor, which is owned by the result."""
    with inside(netns, back_to):
        return Place(netns, NetlinkSocket())


def make_taps(netns: int, back_to: int, orders: list[TapOrder]) -> list[int]:
    """Make taps in a namespace and give their descriptors; they vanish when the last copy is closed.

    Raises:
        MissingPrerequisite: This machine has no taps, or forbids them.
        OSError: The kernel refused one.
    """
    made: list[int] = []
    try:
        with inside(netns, back_to):
            for order in orders:
                made.append(_make_tap(order))
    except BaseException:
        for descriptor in made:
            os.close(descriptor)
        raise
    return made


def socket_inside(netns: int, back_to: int, make_socket: Callable[[], socket.socket]) -> socket.socket:
    """Give a socket that belongs to a namespace."""
    with inside(netns, back_to):
        return make_socket()


def _make_tap(order: TapOrder) -> int:
    descriptor = _open_tun()
    try:
        fcntl.ioctl(descriptor, _TUNSETIFINDEX, struct.pack("=I", order.index))
        request = struct.pack("=16sH22x", order.interface.encode(), _IFF_TAP | _IFF_NO_PI)
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
        fcntl.ioctl(descriptor, _TUNATTACHFILTER, _FOR_GUESTS)
    except OSError as error:
        os.close(descriptor)
        raise OSError(error.errno, f"making tap {order.interface}: {error.strerror}") from error
    return descriptor


def _open_tun() -> int:
    try:
        return os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EACCES, errno.EPERM):
            raise
        raise MissingPrerequisite(
            f"taps cannot be made: {_TUN}: {error.strerror}",
            remedy="sudo modprobe tun && sudo chmod 0666 /dev/net/tun",
            driver="network",
            operation="make tap",
        ) from error


def _wanted(forwards: bool, strict: bool) -> dict[str, str]:
    return _COMMON | (_FORWARDS if forwards else _STAYS) | (_STRICT if strict else {})


def _configure(settings: Iterable[tuple[str, str]]) -> None:
    """Write settings of the namespace that the calling thread is in: /proc/sys/net follows the thread."""
    with ExitStack() as stack:
        folders: dict[str, int | None] = {}
        for name, value in settings:
            family, _, rest = name.partition("/")
            if family not in folders:
                # To find this folder takes the kernel longer the more namespaces there are, so it is looked up once.
                folders[family] = _folder(family, stack)
            folder = folders[family]
            if folder is not None:
                _write(rest, value, folder)


def _folder(family: str, stack: ExitStack) -> int | None:
    """Open the folder of a family's settings; ``None`` where the kernel does without that family."""
    try:
        folder = os.open(_SETTINGS / family, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        if family == "ipv6":
            return None
        raise
    stack.callback(os.close, folder)
    return folder


def _write(name: str, value: str, folder: int) -> None:
    try:
        descriptor = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise type(error)(error.errno, f"setting {name} to {value}: {error.strerror}") from error


def _enter(netns: int) -> None:
    if _libc.setns(netns, _CLONE_NEWNET) != 0:
        raise _last_error("entering a network namespace")


def _last_error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
