"""What a cloud is to be brought to: what a description says now, or what was wanted before."""

from contextlib import closing

from wisp.drivers.store.sqlite import SqliteStore
from wisp.model.description import DesiredState
from wisp.model.operation import Cause
from wisp.primitives.errors import StateError
from wisp.primitives.values import frozen


@frozen
class Wish:
    """A desired state, the text that it came from, and why it is wanted.

    Attributes:
        after: The revision that it changes; ``None`` where it takes the place of whatever is wanted.
    """

    desired: DesiredState
    text: str
    cause: Cause = Cause.WISH
    after: int | None = None


def present_wish(cloud: str, store: SqliteStore) -> Wish:
    """Give what is wanted now, to be tried again; closes the store.

    Raises:
        StateError: Nothing is.
    """
    with closing(store):
        if newest := store.desired():
            return Wish(desired=newest[1], text=store.source(), cause=Cause.RETRY)
    raise StateError(f"cloud {cloud}: nothing is wanted of it yet; run `wisp up FILE`")


def earlier_wish(cloud: str, store: SqliteStore, revision: int | None) -> Wish:
    """Give what was wanted at a revision, or before the present one; closes the store.

    Raises:
        StateError: There is no such revision.
    """
    with closing(store):
        newest = store.desired()
        found = store.at(revision) if revision is not None else store.before(newest[0]) if newest else None
    if found is None:
        what = "nothing else was wanted before" if revision is None else f"there is no revision {revision}"
        raise StateError(f"cloud {cloud}: {what}; `wisp operations` lists the revisions")
    return Wish(desired=found[1], text=found[2], cause=Cause.ROLLBACK)


def as_it_was(desired: DesiredState) -> DesiredState:
    """Give a desired state that was wanted before, with the digests that its images had then."""
    return desired
