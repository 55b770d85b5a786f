"""IPv6 stands beside IPv4 everywhere inside a cloud: guests, programs, devices, routes, delays and losses."""

import re
import statistics
from dataclasses import dataclass

import pytest
from tests.integration.cloud.place import Done, Place

DESCRIPTION = """\
cloud: six
sites: {a: {}, b: {}}
hosts:
  near: {site: a, cpu: 4, memory: 4GiB}
  middle: {site: b, cpu: 4, memory: 4GiB}
  far: {site: b, cpu: 4, memory: 4GiB}
links:
  one: {between: [near, middle], delay: 10ms}
  two: {between: [middle, far], delay: 5ms}
access_points:
  radio: {host: near, delay: 5ms}
  lossy: {host: near, loss: 40%}
devices:
  phone: {access_point: radio}
  unlucky: {access_point: lossy}
images: {web: {role: web}}
vnfds:
  vm: {vdus: {main: {kind: unikernel/microvm, image: web, cpu: 100m, memory: 32MiB}}}
  sealed: {vdus: {main: {kind: unikernel/spt, image: web, cpu: 100m, memory: 32MiB}}}
  program:
    vdus:
      main:
        kind: process
        command: ["${python}", -m, http.server, --bind, "${address6.program}", --directory, "${here}", "8080"]
        cpu: 100m
        memory: 32MiB
        health: {protocol: alive}
network_services:
  web:
    vnfs:
      vm: {vnfd: vm, placement: {hosts: [far]}}
      beside: {vnfd: vm, placement: {hosts: [near]}}
      sealed: {vnfd: sealed, placement: {hosts: [far]}}
      program: {vnfd: program, placement: {hosts: [far]}}
"""
WAY_MS = 2 * (5 + 10 + 5)


@dataclass(frozen=True)
class Cloud:
    """The cloud above, up, and the IPv6 addresses of its instances."""

    place: Place
    addresses: dict[str, str]

    def tried(self, where: str, *words: str) -> Done:
        return self.place.wisp("exec", "-c", "six", where, "--", *words)

    def run(self, where: str, *words: str) -> str:
        done = self.tried(where, *words)
        assert done.status == 0, done.err + done.out
        return done.out


@pytest.fixture
def cloud(place: Place) -> Cloud:
    file = place.directory / "cloud.yaml"
    file.write_text(DESCRIPTION)
    return Cloud(place, {row["name"]: row["address6"] for row in place.ok("up", file)})


@pytest.mark.parametrize("name", ["vm", "sealed"])
def test_guests_answer_over_ipv6_at_the_declared_distance(cloud, name):
    address = cloud.addresses[name]
    assert address.startswith("fd57:6973:70::")
    pings = cloud.run("phone", "ping", "-n", "-c", "10", "-i", "0.1", address)
    times = [float(time) for time in re.findall(r"time=([\d.]+)", pings)]
    assert len(times) == 10, pings
    assert WAY_MS - 1 <= statistics.median(times) <= WAY_MS + 3
    fetched = cloud.run("phone", "curl", "-sS", "-m", "5", "-w", "%{time_connect}", f"http://[{address}]/")
    page, connected_s = fetched.rsplit("\n", 1)
    assert "A Wisp unikernel" in page
    assert float(connected_s) * 1000 >= WAY_MS - 1


def test_a_program_is_told_its_ipv6_address(cloud):
    assert "cloud.yaml" in cloud.run("phone", "curl", "-sS", "-m", "5", f"http://[{cloud.addresses['program']}]:8080/")


def test_a_host_reaches_its_guest_by_its_own_address(cloud):
    address = cloud.addresses["beside"]
    assert " dev t-beside" in cloud.run("near", "ip", "-6", "route", "get", address)
    assert "A Wisp unikernel" in cloud.run("near", "curl", "-sS", "-m", "5", f"http://[{address}]/")


def test_what_is_lost_is_lost_over_ipv6_too(cloud):
    words = ("ping", "-n", "-q", "-c", "100", "-i", "0.01", "-W", "1")
    pings = cloud.tried("unlucky", *words, cloud.addresses["beside"])
    lost = float(re.search(r"([\d.]+)% packet loss", pings.out)[1])
    assert 40 <= lost <= 85  # each way 40 %: 64 are expected


def test_a_route_that_somebody_takes_away_comes_back(cloud):
    ping = ("ping", "-n", "-c", "1", "-W", "1", cloud.addresses["vm"])
    assert cloud.tried("phone", *ping).status == 0
    # `ip route flush` cannot: it repeats what a route's next hop is, which the kernel wants to hear by number only.
    each = "ip -6 route show proto 87 | while read -r to _; do ip -6 route del $to || exit 1; done"
    cloud.run("near", "sh", "-c", each)
    assert cloud.tried("phone", *ping).status != 0
    assert any(cloud.tried("phone", *ping).status == 0 for _ in range(30))
