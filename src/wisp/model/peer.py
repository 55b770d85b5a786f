"""Whom a word in an affinity means."""

from collections import defaultdict
from collections.abc import Iterable

from wisp.model.description import DeclaredInstance


class Peers:
    """Finds the instances that a constraint names.

    A word is an instance, or what several stand in for, or else a VNF of the same network service. Such a VNF stands
    for its instances at the same site where both are declared per site, and for all of them otherwise; never for the
    one that asks.
    """

    def __init__(self, instances: Iterable[DeclaredInstance]) -> None:
        self._by_name = {instance.name: instance for instance in instances}
        self._by_vnf: dict[tuple[str, str], list[DeclaredInstance]] = defaultdict(list)
        self._by_whole: dict[str, list[str]] = defaultdict(list)
        for instance in self._by_name.values():
            self._by_vnf[instance.network_service, instance.vnf].append(instance)
            self._by_whole[instance.replica_of].append(instance.name)

    def named(self, asking: DeclaredInstance, word: str) -> tuple[str, ...]:
        """Give the names that ``word`` means in a constraint of ``asking``; none when it means nobody else."""
        if word in self._by_name:
            return (word,) if word != asking.name else ()
        if word in self._by_whole:
            return tuple(name for name in self._by_whole[word] if name != asking.name)
        return tuple(
            peer.name
            for peer in self._by_vnf.get((asking.network_service, word), ())
            if peer.name != asking.name and (None in (asking.site, peer.site) or asking.site == peer.site)
        )
