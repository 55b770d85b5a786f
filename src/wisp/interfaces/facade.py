"""What the interfaces are handed: one object for the machine, one for each cloud. ``assembly`` gives the real ones."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from wisp.model.description import Link, Router
from wisp.model.echo import EchoAnswer, Hop
from wisp.model.fault import Degradation, Fault
from wisp.model.observation import Event
from wisp.model.operation import Operation
from wisp.model.view import (
    CloudStatus,
    DirectionCounters,
    Finding,
    InstanceRow,
    PlannedChange,
    Progress,
    RouterCounters,
)

OnProgress = Callable[[Progress], None]


class NetworkFacade(Protocol):
    """A running cloud's network; see :attr:`wisp.Cloud.network`."""

    def routers(self) -> Sequence[Router]:
        """Give the routers that are wanted."""
        ...

    def links(self) -> Sequence[Link]:
        """Give the links that are wanted."""
        ...

    async def add_routers(self, *names: str, latitude: str | None = ..., longitude: str | None = ...) -> None:
        """Make routers."""
        ...

    async def remove_routers(self, *names: str) -> None:
        """Take routers away, with their links."""
        ...

    async def add_link(self, first: str, second: str, *, name: str | None = ..., **shape: str) -> None:
        """Join two hosts or routers."""
        ...

    async def set_link(self, name: str, *, directions: Sequence[str] = ..., **shape: str) -> None:
        """Change the shape of a link."""
        ...

    async def remove_links(self, *names: str) -> None:
        """Take links away."""
        ...


class CloudFacade(Protocol):
    """One cloud; see :class:`wisp.Cloud`."""

    name: str

    async def up(self, progress: OnProgress = ..., *, timeout_s: float = ...) -> list[InstanceRow]:
        """Bring it to what its description says."""
        ...

    async def down(self, progress: OnProgress = ...) -> None:
        """End it and remove everything of it."""
        ...

    async def rollback(
        self, progress: OnProgress = ..., *, to: int | None = ..., timeout_s: float = ...
    ) -> list[InstanceRow]:
        """Bring it back to what was wanted before."""
        ...

    async def retry(self, progress: OnProgress = ..., *, timeout_s: float = ...) -> list[InstanceRow]:
        """Try again at once what has failed."""
        ...

    def operations(self, *, limit: int = ...) -> list[Operation]:
        """Give its life cycle operations."""
        ...

    async def plan(self) -> PlannedChange:
        """Say what ``up`` would change."""
        ...

    async def ps(self) -> list[InstanceRow]:
        """Give its instances."""
        ...

    async def status(self) -> CloudStatus:
        """Sum it up."""
        ...

    @property
    def network(self) -> NetworkFacade:
        """Its routers and links, to be changed while it runs."""
        ...

    def faults(self) -> list[Fault]:
        """Give what is broken on purpose."""
        ...

    async def fault(
        self,
        kind: str,
        name: str,
        action: str,
        *,
        period_s: float | None = ...,
        degradation: Degradation | None = ...,
        timeout_s: float = ...,
    ) -> list[Fault]:
        """Break something or mend it; give what is broken then."""
        ...

    def events(self, *, after: int = ..., limit: int = ...) -> list[tuple[int, Event]]:
        """Give what happened."""
        ...

    def follow_events(self) -> AsyncIterator[Event]:
        """Give events as they happen."""
        ...

    def logs(self, instance: str) -> str:
        """Give what an instance wrote."""
        ...

    async def exec(self, where: str, argv: Sequence[str]) -> int:
        """Run a command inside a host or device; give its exit status."""
        ...

    async def run(self, where: str, argv: Sequence[str]) -> tuple[int, str]:
        """Run a command inside a host or device; give its exit status and all it wrote."""
        ...

    def ping(
        self,
        begin: str,
        end: str,
        *,
        count: int = ...,
        interval_s: float = ...,
        patience_s: float = ...,
        ipv6: bool = ...,
    ) -> AsyncIterator[EchoAnswer]:
        """Send echo requests from one place to another; give what comes of each."""
        ...

    async def trace(self, begin: str, end: str, *, patience_s: float = ..., ipv6: bool = ...) -> Sequence[Hop]:
        """Give the stations on the way from one place to another."""
        ...

    async def link_counters(self) -> list[DirectionCounters]:
        """Give what went over every link, in each direction."""
        ...

    async def router_counters(self) -> list[RouterCounters]:
        """Give what went into and out of every router."""
        ...

    async def forward(self, listen: str, instance: str, port: int, ready: Callable[[str], None]) -> None:
        """Lead a port of this machine to an instance until cancelled."""
        ...


class MachineFacade(Protocol):
    """What Wisp can do on this machine without a cloud, and the clouds that are here."""

    def cloud(self, source: Path | None = None, *, name: str | None = None) -> CloudFacade:
        """Give a cloud by its description or its name."""
        ...

    def clouds(self) -> list[str]:
        """Give the names of the clouds that are here."""
        ...

    async def doctor(self) -> list[Finding]:
        """Say what this machine can do, with the remedy for what it cannot."""
        ...

    def schema(self) -> Mapping[str, Any]:
        """Give the JSON Schema of a description."""
        ...

    def build_image(
        self, role: str, *, target: str, content: Path | None, options: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """Build a sealed image and give its manifest."""
        ...

    def images(self) -> list[Mapping[str, Any]]:
        """Give the manifests of all images, built ones first."""
        ...

    def import_image(self, file: Path, *, name: str) -> Mapping[str, Any]:
        """Keep somebody else's image and give its manifest, with the kind and machine that would run it."""
        ...

    def inspect_image(self, digest: str) -> Mapping[str, Any]:
        """Check an image against its manifest and give that."""
        ...

    def import_topology(self, file: Path, *, name: str) -> Mapping[str, Any]:
        """Give the description of a network that somebody else drew."""
        ...

    def benches(self) -> list[str]:
        """Give the names of the benchmarks."""
        ...

    async def bench(self, name: str, *, quick: bool, plot: Path | None, progress: OnProgress) -> Mapping[str, Any]:
        """Run a benchmark and give its report."""
        ...

    async def demo(self, progress: OnProgress, say: Callable[[str], None]) -> Mapping[str, Any]:
        """Run the fog scenario to its visible end."""
        ...
