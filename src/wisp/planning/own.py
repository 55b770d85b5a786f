"""What a description cannot know of an instance beforehand: its own address and the like, as ``${own.FACT}``."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_network

from wisp.codec import placeholder
from wisp.model.description import DeclaredInstance, Vdu
from wisp.model.network import ipv6_of, mac_of
from wisp.planning import addressing


def with_own_facts(instance: DeclaredInstance, *, address: str, gateway: str) -> Vdu:
    """Give the VDU of an instance with ``${own.FACT}`` filled in."""
    facts = own_facts(instance, address=address, gateway=gateway)

    def filled(text: str) -> str:
        return placeholder.fill(text, lambda word, name: facts.get(name) if word == "own" else None)

    return replace(
        instance.vdu,
        command=tuple(filled(word) for word in instance.vdu.command),
        config={key: filled(text) for key, text in instance.vdu.config.items()},
    )


def own_facts(instance: DeclaredInstance, *, address: str, gateway: str) -> Mapping[str, str]:
    """Give each fact of ``codec.placeholder.OWN``."""
    owns_tap = instance.vdu.kind.owns_tap
    length = addressing.PREFIX_LENGTH if owns_tap else 32
    return {
        "name": instance.name,
        "address": address,
        "prefix": str(length),
        "netmask": str(ip_network(f"0.0.0.0/{length}").netmask),
        "gateway": gateway,
        "mac": mac_of(address) if owns_tap else "",
        "address6": ipv6_of(address),
        "gateway6": ipv6_of(gateway),
    }
