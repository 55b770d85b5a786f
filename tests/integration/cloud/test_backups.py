"""What a broken link cannot take goes elsewhere at once, without anybody being asked."""

import os
import signal

import pytest
from tests.integration.cloud.place import Place, wait_until

DESCRIPTION = """\
cloud: backed
routing: {{backups: {backups}}}
routers: {{north: {{}}, east: {{}}, west: {{}}}}
links:
  a: {{between: [north, east], delay: 1ms}}
  b: {{between: [east, west], delay: 1ms}}
  c: {{between: [north, west], delay: 1ms}}
"""


def way(place: Place) -> list[str]:
    """Give the stations from north to east; none where nothing comes back."""
    done = place.wisp("trace", "-c", "backed", "--json", "-W", "0.3", "north", "east")
    return [hop["name"] for hop in done.json["hops"]] if done.json["gets_there"] else []


@pytest.mark.parametrize("backups", [True, False])
def test_a_link_is_bypassed_while_nobody_is_there_to_ask(place: Place, backups: bool) -> None:
    file = place.directory / "cloud.yaml"
    file.write_text(DESCRIPTION.format(backups=str(backups).lower()))
    place.ok("up", file)
    assert way(place) == ["east"]
    controller = place.children("backed")["controller"].pid
    os.kill(controller, signal.SIGSTOP)
    try:
        assert place.wisp("exec", "-c", "backed", "north", "--", "ip", "link", "set", "l-a", "down").status == 0
        assert way(place) == (["west", "east"] if backups else [])
        for family in ((), ("-6",)):
            done = place.wisp("ping", "-c", "backed", "-n", "3", "-W", "0.3", *family, "east", "north")
            assert (done.status == 0) == backups
    finally:
        os.kill(controller, signal.SIGCONT)
    # It finds that out by looking, and mends what nobody declared broken.
    wait_until(lambda: way(place) == ["east"], within_s=30, what="the link mended")
    routes = place.wisp("exec", "-c", "backed", "north", "--", "ip", "route").out
    assert ("metric 4096" in routes) == backups


def test_ways_are_chosen_by_weight_where_that_is_declared(place: Place) -> None:
    file = place.directory / "cloud.yaml"
    text = DESCRIPTION.format(backups="false").replace("{backups", "{by: weight, backups")
    file.write_text(text.replace("{between: [north, east],", "{between: [north, east], weight: 3,"))
    place.ok("up", file)
    assert way(place) == ["west", "east"]
    (link, *_) = place.ok("link", "set", "-c", "backed", "a", "--weight", "2")
    assert link["weight"] == 2
    # Both cost the same now, and of these the one over fewer links is taken.
    assert way(place) == ["east"]
    place.ok("link", "set", "-c", "backed", "a", "--forward", "--delay", "9ms")
    place.ok("link", "set", "-c", "backed", "a", "--weight", "none")
    (link, *_) = place.ok("link", "ls", "-c", "backed")
    assert (link["weight"], link["forward"]["delay_us"], link["backward"]["delay_us"]) == (1, 9000, 1000)
    assert way(place) == ["east"]
