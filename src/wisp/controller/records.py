"""What was last seen of each instance, found by its name or its process, and what of it changed lately."""

from collections.abc import Mapping
from types import MappingProxyType

from wisp.model.instance import ObservedInstance


class Records:
    """Records of instances.

    Args:
        found: Those to begin with, by name.
    """

    def __init__(self, found: Mapping[str, ObservedInstance]) -> None:
        self._by_name = dict(found)
        self._names = {seen.handle.child: seen.name for seen in found.values() if seen.handle}
        self._changed: dict[str, ObservedInstance] = {}
        self._gone: list[str] = []
        self.by_name: Mapping[str, ObservedInstance] = MappingProxyType(self._by_name)

    def by_child(self, child: str) -> ObservedInstance | None:
        """Give the record of the instance whose process is known to the keeper so."""
        name = self._names.get(child)
        return None if name is None else self._by_name.get(name)

    def failures(self, name: str, spec_digest: str) -> int:
        """Give how often in a row an instance has failed as it is described now."""
        seen = self._by_name.get(name)
        return 0 if seen is None or seen.spec_digest != spec_digest else seen.failures

    def put(self, seen: ObservedInstance) -> None:
        """Take note of what was seen."""
        before = self._by_name.get(seen.name)
        if before and before.handle and before.handle != seen.handle:
            self._names.pop(before.handle.child, None)
        if seen.handle:
            self._names[seen.handle.child] = seen.name
        self._by_name[seen.name] = self._changed[seen.name] = seen

    def forget(self, seen: ObservedInstance) -> None:
        """Drop a record."""
        del self._by_name[seen.name]
        if seen.handle:
            self._names.pop(seen.handle.child, None)
        self._changed.pop(seen.name, None)
        self._gone.append(seen.name)

    def take_changed(self) -> tuple[tuple[ObservedInstance, ...], tuple[str, ...]]:
        """Give the records that changed and the names of those dropped since this was last asked."""
        changed, gone = tuple(self._changed.values()), tuple(self._gone)
        self._changed.clear()
        self._gone.clear()
        return changed, gone
