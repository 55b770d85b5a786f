"""A network that is wanted changes by one router or link at a time, and only as a description may."""

from pathlib import PurePath

import pytest

from wisp.codec.description import parse
from wisp.codec.edit import add_link, add_routers, edited, remove_links, remove_routers, set_link
from wisp.model.description import DesiredState, LinkShape
from wisp.primitives.errors import DescriptionError, StateError

TEXT = """\
cloud: c
sites: {s: {}}
hosts: {h: {site: s, cpu: 1, memory: 1GiB}}
routers: {a: {}, b: {}}
links: {one: {between: [a, b], delay: 5ms, rate: 1Mbit}}
images: {page: {role: web}}
"""


def wanted(*edits, text: str = TEXT) -> DesiredState:
    made = parse(text, file="t", base=PurePath("/"))
    for edit in edits:
        made, described = edited(made, edit)
        assert parse(described, file="t", base=PurePath("/")) == made
    return made


def test_a_network_grows_and_shrinks():
    grown = wanted(add_routers(["x", "y"], latitude="1.5", longitude="2"), add_link(None, "x", "h", {"delay": "1ms"}))
    assert [router.name for router in grown.routers] == ["a", "b", "x", "y"]
    assert (grown.routers[2].latitude, grown.links[1].name) == (1.5, "x-h")
    assert wanted(remove_routers(["a", "b"])).links == ()
    assert wanted(remove_links(["one"])).links == ()


def test_a_second_link_between_the_same_gets_another_name():
    made = wanted(add_link(None, "a", "b", {}), add_link(None, "a", "b", {}), add_link("mine", "a", "b", {}))
    assert [link.name for link in made.links] == ["one", "a-b", "a-b-2", "mine"]


def test_a_shape_changes_in_one_direction_or_both_and_the_rest_stays():
    (link,) = wanted(set_link("one", {"delay": "1ms"}, directions=["backward"])).links
    assert link.forward == LinkShape(rate_bps=1_000_000, delay_us=5_000)
    assert link.backward == LinkShape(rate_bps=1_000_000, delay_us=1_000)
    (link,) = wanted(set_link("one", {"rate": "none", "loss": "1%"})).links
    assert link.forward == link.backward == LinkShape(delay_us=5_000, loss_ppm=10_000)


def test_all_else_stays_what_it_was():
    before = wanted()
    after = wanted(add_routers(["x"]))
    assert (after.hosts, after.images, after.sites) == (before.hosts, before.images, before.sites)


@pytest.mark.parametrize(
    ("edit", "kind", "says"),
    [
        (add_routers(["a"]), StateError, "router 'a' cannot be added"),
        (add_routers(["h"]), StateError, "router 'h' cannot be added"),
        (remove_routers(["z"]), StateError, "no router 'z'; there are: a, b"),
        (add_link("one", "a", "b", {}), StateError, "link 'one' cannot be added"),
        (add_link(None, "a", "z", {}), DescriptionError, "'z'"),
        (add_link(None, "a", "a", {}), DescriptionError, "between"),
        (set_link("two", {}), StateError, "no link 'two'; there are: one"),
        (set_link("one", {"delay": "soon"}), DescriptionError, "soon"),
        (remove_links(["two"]), StateError, "no link 'two'"),
        (remove_links(["one", "one"]), StateError, "there are: none"),
        (add_routers(["no good"]), DescriptionError, "no good"),
    ],
)
def test_what_cannot_be_is_refused_with_what_there_is(edit, kind, says):
    with pytest.raises(kind, match=says):
        wanted(edit)
