"""Doors: the ports of this machine through which the outside comes into a cloud.

A published port leads to its instance from the network of the instance's host. An external device comes in where an
emulated one would stand: behind its access point, with an address of its own, at the pace of its link.
"""

from wisp.codec import endpoint
from wisp.model.description import DesiredState, ExternalAttachment, PublishedPort
from wisp.model.instance import Door

# Where a relay finds its bound socket.
DOOR_DESCRIPTOR = 3


def doors(desired: DesiredState) -> tuple[Door, ...]:
    """Give every port of this machine that a description asks for."""
    ports = (published_door(each.name, port) for each in desired.instances for port in each.publish)
    externals = (external_door(device.external) for device in desired.devices if device.external)
    return (*ports, *externals)


def published_door(instance: str, port: PublishedPort) -> Door:
    """Give the door of a published port."""
    listen = endpoint.render_endpoint(port.address, port.port)
    return Door(listen=listen, protocol=port.protocol, to=(instance, port.target_port))


def external_door(external: ExternalAttachment) -> Door:
    """Give the door through which a real device comes in."""
    return Door(listen=external.listen, protocol=external.protocol, to=external.to)
