"""Counters tell what really went over a link, in each direction, and what found no room."""

from typing import Any

from tests.integration.cloud.place import Place

DESCRIPTION = """\
cloud: counted
routers: {left: {}, middle: {}, right: {}}
links:
  a: {between: [left, middle]}
  b: {between: [middle, right], forward: {rate: 1Mbit, queue: 5}}
"""
PACKETS, BYTES = 50, 50 * (14 + 20 + 8 + 48)


def counters(place: Place) -> dict[tuple[str, str], dict[str, Any]]:
    rows = place.ok("link", "counters", "-c", "counted")
    return {(row["begin"], row["end"]): row for row in rows}


def test_what_went_over_links_and_through_routers_is_counted(place: Place) -> None:
    file = place.directory / "cloud.yaml"
    file.write_text(DESCRIPTION)
    place.ok("up", file)
    before = counters(place)
    assert set(before) == {("left", "middle"), ("middle", "left"), ("middle", "right"), ("right", "middle")}
    place.ok("ping", "-c", "counted", "left", "right", "-n", str(PACKETS), "-i", "0.002")
    after = counters(place)
    for where in before:
        # Neighbours talk among themselves a little as well.
        more = {
            key: after[where][key] - before[where][key] for key in after[where] if key.endswith(("packets", "bytes"))
        }
        assert PACKETS <= more["sent_packets"] <= PACKETS + 10, where
        assert PACKETS <= more["arrived_packets"] <= PACKETS + 10, where
        assert BYTES <= more["sent_bytes"] <= BYTES + 2000, where
        assert more["dropped_packets"] == 0, where
    (_, middle, _) = place.ok("router", "counters", "-c", "counted")
    assert middle["router"] == "middle"
    arrived = sum(after[each, "middle"]["arrived_packets"] for each in ("left", "right"))
    assert arrived <= middle["received_packets"] <= arrived + 10

    # Of many at once, only those that the queue and its burst hold get onto the slow link.
    place.wisp("ping", "-c", "counted", "left", "right", "-n", "400", "-i", "0", "-W", "0.5")
    full = counters(place)
    dropped = full["middle", "right"]["dropped_packets"]
    sent = full["middle", "right"]["sent_packets"] - after["middle", "right"]["sent_packets"]
    assert dropped > 100 and 400 <= dropped + sent <= 410
    assert full["left", "middle"]["dropped_packets"] == 0
    shown = place.wisp("link", "counters", "-c", "counted").out.splitlines()
    assert shown[0].split() == ["LINK", "FROM", "TO", "PACKETS", "BYTES", "DROPPED"]
    assert place.wisp("router", "counters", "-c", "counted").out.splitlines()[0].startswith("ROUTER")
