"""What a host says to a guest that shall go: an Ethernet frame of a kind of its own, which nothing else sends."""

import socket

from wisp.drivers.network.place import socket_inside

# For use among ourselves (IEEE 802, local experimental EtherType 2); guests know it too (`guest/src/hal`).
_ETHERTYPE = 0x88B6
_SHORTEST_PAYLOAD = bytes(46)


def say_farewell(netns: int, back_to: int, interface: str, mac: str) -> None:
    """Tell a guest to finish what it has, and to end once nobody is connected.

    Args:
        netns: Descriptor of the namespace of its host.
        back_to: Descriptor of the calling thread's own namespace.
        interface: The host's end of the guest's tap.
        mac: The guest's hardware address.

    Raises:
        OSError: There is no such interface, or it has no room for a frame now.
    """
    with socket_inside(netns, back_to, _packet_socket) as speaking:
        destination = bytes.fromhex(mac.replace(":", ""))
        speaking.sendto(_SHORTEST_PAYLOAD, (interface, _ETHERTYPE, 0, 0, destination))


def _packet_socket() -> socket.socket:
    """Give a socket that hears nothing, for frames whose header the kernel writes."""
    return socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
