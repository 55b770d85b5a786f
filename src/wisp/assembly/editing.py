"""A running cloud's network, changed router by router and link by link; each change is a revision of its own."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing

from wisp.assembly.wish import Wish
from wisp.codec.edit import DIRECTIONS, Edit, add_link, add_routers, edited, remove_links, remove_routers, set_link
from wisp.drivers.store.sqlite import SqliteStore
from wisp.model.description import Link, Router
from wisp.model.operation import Cause
from wisp.primitives.errors import StaleWrite, StateError

ATTEMPTS = 20


class NetworkEditor:
    """The routers and links of one cloud. Every change returns when it is carried out.

    Shapes are given as in a description: ``delay="5ms", rate="100Mbit", loss="1%", jitter="1ms", queue="50"``, and
    ``weight="3"``, which holds in both directions; ``none`` takes away what was said before.

    Args:
        cloud: Name of the cloud.
        open_store: Opens what the cloud has stored.
        bring: Has a wish carried out.
    """

    def __init__(
        self, cloud: str, open_store: Callable[[], SqliteStore], bring: Callable[[Wish], Awaitable[object]]
    ) -> None:
        self._cloud, self._open_store, self._bring = cloud, open_store, bring

    def routers(self) -> Sequence[Router]:
        """Give the routers that are wanted.

        Raises:
            StateError: There is no such cloud.
        """
        return self._present().desired.routers

    def links(self) -> Sequence[Link]:
        """Give the links between hosts and routers that are wanted.

        Raises:
            StateError: There is no such cloud.
        """
        return self._present().desired.links

    async def add_routers(self, *names: str, latitude: str | None = None, longitude: str | None = None) -> None:
        """Make routers.

        Raises:
            StateError: One of that name exists, or the cloud is down.
            WispError: As :meth:`wisp.Cloud.up`; so of all others.
        """
        await self._change(add_routers(names, latitude=latitude, longitude=longitude))

    async def remove_routers(self, *names: str) -> None:
        """Take routers away, with their links.

        Raises:
            StateError: There is no such router, or the cloud is down.
        """
        await self._change(remove_routers(names))

    async def add_link(self, first: str, second: str, *, name: str | None = None, **shape: str) -> None:
        """Join two hosts or routers; without a name the link is named after both.

        Raises:
            StateError: A link of that name exists, or the cloud is down.
            DescriptionError: There is no such host or router, or the shape is not one.
        """
        await self._change(add_link(name, first, second, shape))

    async def set_link(self, name: str, *, directions: Sequence[str] = DIRECTIONS, **shape: str) -> None:
        """Change the shape of a link in both directions, or in those that are given; what is not said stays.

        Raises:
            StateError: There is no such link, or the cloud is down.
            DescriptionError: The shape is not one.
        """
        await self._change(set_link(name, shape, directions=directions))

    async def remove_links(self, *names: str) -> None:
        """Take links away.

        Raises:
            StateError: There is no such link, or the cloud is down.
        """
        await self._change(remove_links(names))

    async def _change(self, edit: Edit) -> None:
        for _ in range(ATTEMPTS):
            present = self._present()
            desired, text = edited(present.desired, edit)
            try:
                await self._bring(Wish(desired=desired, text=text, cause=Cause.EDIT, after=present.after))
                return
            except StaleWrite:
                continue  # somebody else changed it meanwhile: what they want stays, and this comes on top
        raise StateError(f"cloud {self._cloud}: others changed it {ATTEMPTS} times meanwhile; try again")

    def _present(self) -> Wish:
        with closing(self._open_store()) as store:
            newest = store.desired()
        if newest is None:
            raise StateError(f"cloud {self._cloud}: nothing is wanted of it yet; run `wisp up FILE`")
        return Wish(desired=newest[1], text="", after=newest[0])
