"""Actions and what undoes them."""

import pytest

from wisp.model.action import RemoveNamespace, RemoveTap
from wisp.model.effect import NetworkState
from wisp.model.network import Network
from wisp.testing.network import FIRST, GUEST, SMALL, creations


def test_an_action_that_holds_has_nothing_to_undo():
    state = NetworkState(SMALL)
    assert [state.apply(action) for action in creations(SMALL)] == [()] * len(creations(SMALL))
    assert state.apply(RemoveTap(tap=GUEST)) != ()
    assert state.apply(RemoveTap(tap=GUEST)) == ()


@pytest.mark.parametrize("start", [Network(), SMALL], ids=["empty", "full"])
def test_undoing_in_reverse_brings_back_what_was(start):
    state = NetworkState(start)
    actions = [*creations(SMALL), RemoveNamespace(name=FIRST.name), *creations(SMALL), RemoveTap(tap=GUEST)]
    undo = [state.apply(action) for action in actions]
    for way_back in reversed(undo):
        for action in way_back:
            state.apply(action)
    assert state.network() == start
