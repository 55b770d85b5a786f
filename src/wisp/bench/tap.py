"""Taps for guests, in the benchmark's own network namespace."""

import fcntl
import os
import struct
import subprocess
from pathlib import Path

from wisp.bench.machine import find_command
from wisp.model.network import mac_of
from wisp.primitives.errors import MissingPrerequisite
from wisp.primitives.values import frozen

PREFIX_LENGTH = 24
# A guest that was not there at the first ARP question is asked again this soon; the kernel's own habit is a second.
ARP_RETRY_MS = 20
ARP_TRIES = 1000

_TUNSETIFF = 0x400454CA
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000


@frozen
class Tap:
    """A tap whose host side is up; goes away when its descriptor is closed.

    Attributes:
        descriptor: Non-blocking, to be inherited by the guest.
        gateway: Address of the host side.
        guest: Address the guest is to take.
        mac: Hardware address the guest is to take.
    """

    descriptor: int
    gateway: str
    guest: str
    mac: str

    def __enter__(self) -> "Tap":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


def open_tap(name: str, subnet: str) -> Tap:
    """Make a tap and bring it up.

    Args:
        name: Of the interface.
        subnet: First three numbers of its subnet, as ``10.71.1``.
    """
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    _write(f"net/ipv6/conf/{name}/disable_ipv6", 1)
    _write(f"net/ipv4/neigh/{name}/retrans_time_ms", ARP_RETRY_MS)
    _write(f"net/ipv4/neigh/{name}/mcast_solicit", ARP_TRIES)
    ip("address", "add", f"{subnet}.1/{PREFIX_LENGTH}", "dev", name)
    ip("link", "set", name, "address", mac_of(f"{subnet}.1"), "up")
    last = [int(part) for part in subnet.split(".")[1:]]
    mac = "02:00:00:{:02x}:{:02x}:02".format(*last)
    return Tap(descriptor=descriptor, gateway=f"{subnet}.1", guest=f"{subnet}.2", mac=mac)


def ip(*arguments: str) -> None:
    """Run iproute2's ``ip``.

    Raises:
        MissingPrerequisite: It is not installed.
        subprocess.CalledProcessError: It refused.
    """
    program = find_command("ip")
    if program is None:
        raise MissingPrerequisite("no `ip` on this machine", remedy="run: make setup-system")
    subprocess.run([program, *arguments], check=True, timeout=10)


def _write(setting: str, value: int) -> None:
    path = Path("/proc/sys") / setting
    if path.exists():  # a kernel without IPv6 has none of its settings
        path.write_text(str(value))
