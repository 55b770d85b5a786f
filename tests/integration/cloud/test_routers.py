"""Routers forward between hosts, and a drawn network is one that packets cross."""

from pathlib import Path

from tests.integration.cloud.place import Place

DESCRIPTION = """\
cloud: routed
sites: {here: {}}
hosts:
  left: {site: here, cpu: 1, memory: 64MiB}
  right: {site: here, cpu: 1, memory: 64MiB}
routers: {north: {}, south: {}}
links:
  a: {between: [left, north], delay: 1ms}
  b: {between: [north, right], delay: 1ms}
  c: {between: [left, south], delay: 3ms}
  d: {between: [south, right], delay: 3ms}
access_points: {wifi: {host: left}}
devices: {phone: {access_point: wifi}}
images: {page: {role: web}}
vnfds: {web: {vdus: {main: {kind: unikernel/spt, image: page, memory: 8MiB}}}}
network_services: {all: {vnfs: {web: {vnfd: web, placement: {hosts: [right]}}}}}
"""
GML = """\
graph [
  node [ id 0 label "Berlin" Latitude 52.5 Longitude 13.4 ]
  node [ id 1 label "Leipzig" Latitude 51.3 Longitude 12.4 ]
  node [ id 2 label "Munich" Latitude 48.1 Longitude 11.6 ]
  edge [ source 0 target 1 ]
  edge [ source 1 target 2 ]
]
"""


def write(place: Place, text: str) -> Path:
    file = place.directory / "cloud.yaml"
    file.write_text(text)
    return file


def test_packets_take_the_quickest_way_through_routers(place: Place) -> None:
    file = write(place, DESCRIPTION)
    place.ok("up", file)
    done = place.wisp("exec", "-c", "routed", "phone", "--", "curl", "-sS", "-m", "5", "http://web/health")
    assert done.status == 0, done.err
    # With the northern way slow, all go through the south; nothing is restarted.
    before = place.pids("routed")
    write(place, DESCRIPTION.replace("north], delay: 1ms", "north], delay: 9ms"))
    place.ok("up", file)
    assert place.pids("routed") == before
    (row,) = [row for row in place.ok("ps", "-c", "routed") if row["name"] == "web"]
    done = place.wisp("exec", "-c", "routed", "left", "--", "ip", "route", "get", row["address"])
    assert "dev l-c" in done.out
    # A router that is not wanted any more goes, and its links with it.
    smaller = "\n".join(line for line in DESCRIPTION.splitlines() if not line.startswith(("  c:", "  d:")))
    write(place, smaller.replace(", south: {}", ""))
    place.ok("up", file)
    assert place.wisp("exec", "-c", "routed", "south", "--", "true").status != 0
    done = place.wisp("exec", "-c", "routed", "phone", "--", "curl", "-sS", "-m", "5", "http://web/health")
    assert done.status == 0, done.err


def test_a_drawn_network_carries_packets_end_to_end(place: Place) -> None:
    (place.directory / "germany.gml").write_text(GML)
    found = place.ok("topology", "import", "germany.gml", "-o", "germany.yaml")
    assert (found["name"], found["routers"], found["links"], found["notes"]) == ("germany", 3, 2, [])
    place.ok("up", "germany.yaml")
    munich = place.wisp("exec", "-c", "germany", "munich", "--", "ip", "-o", "addr", "show", "lo").out
    address = next(word.partition("/")[0] for word in munich.split() if word.startswith("172.24."))
    done = place.wisp("exec", "-c", "germany", "berlin", "--", "ping", "-c", "5", "-i", "0.2", "-W", "2", address)
    assert done.status == 0, done.out
    assert "ttl=63" in done.out
    # Berlin to Leipzig 150 km, Leipzig to Munich 360 km, there and back in fibre: 5.1 ms. Each link may be 0.4 early.
    assert 4.3 <= float(done.out.rpartition("= ")[2].split("/")[0]) <= 8


def test_a_file_that_is_no_network_is_refused_with_its_line(place: Place) -> None:
    (place.directory / "bad.gml").write_text("graph [\n node [ ]\n]")
    done = place.wisp("topology", "import", "bad.gml")
    assert done.status == 2
    assert "bad.gml:2: graph.node: a node has no id" in done.err
