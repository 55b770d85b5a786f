"""Names: whoever asks for an instance is told the nearest one, and wakes it."""

import json
import os
import signal
from pathlib import Path

import pytest
from tests.integration.cloud.place import Place, wait_until

CLIENT = Path(__file__).with_name("dns.py")
DESCRIPTION = """\
cloud: named
sites: {west: {}, east: {}}
hosts:
  w: {site: west, cpu: 4, memory: 64MiB}
  e: {site: east, cpu: 4, memory: 64MiB}
links:
  we: {between: [w, e], delay: 5ms}
access_points: {pw: {host: w}, pe: {host: e}}
devices:
  anna: {access_point: pw}
  emil: {access_point: pe}
images: {page: {role: web}}
vnfds:
  web: {vdus: {main: {kind: unikernel/spt, image: page, memory: 8MiB}}}
  bad: {vdus: {main: {kind: unikernel/spt, image: page, memory: 8MiB, config: {port: nonsense}}}}
  large: {vdus: {main: {kind: unikernel/spt, image: page, memory: 40MiB}}}
network_services:
  shop:
    vnfs:
      web: {vnfd: web, sites: all, min_instances: 0, idle_timeout: 1s}
      always: {vnfd: web, placement: {sites: [east]}}
      bad: {vnfd: bad, placement: {sites: [east]}, min_instances: 0}
      big: {vnfd: large, placement: {sites: [west]}, min_instances: 0, idle_timeout: 5s}
      bigger: {vnfd: large, placement: {sites: [west]}, min_instances: 0, idle_timeout: 5s}
dns: {ttl: 7s}
"""


class Cloud:
    def __init__(self, place: Place) -> None:
        self.place = place
        self.file = place.directory / "cloud.yaml"
        self.file.write_text(DESCRIPTION)
        self.addresses = {row["name"]: row["address"] for row in place.ok("up", self.file)}

    def run(self, where: str, *words: str) -> str:
        done = self.place.wisp("exec", "-c", "named", where, "--", *words)
        assert done.status == 0, done.err
        return done.out

    def ask(self, where: str, name: str, kind: str = "A", *options: str) -> dict:
        return json.loads(self.run(where, "python3", str(CLIENT), *options, name, kind))

    def states(self) -> dict[str, str]:
        return {row["name"]: row["state"] for row in self.place.ok("ps", "-c", "named")}

    def woken(self) -> list[str]:
        return [e["subject"] for e in self.place.ok("events", "-c", "named") if e["what"] == "instance-woken"]


@pytest.fixture
def cloud(place: Place) -> Cloud:
    return Cloud(place)


@pytest.mark.parametrize("options", [(), ("--tcp",)])
def test_everybody_is_told_the_nearest_one_and_wakes_it(cloud, options):
    for device, instance in (("anna", "web-west"), ("emil", "web-east")):
        answer = cloud.ask(device, "web.named.internal", "A", *options)
        assert answer["code"] == 0
        assert answer["aa"]
        assert answer["answers"] == [["web.named.internal", 1, 7, cloud.addresses[instance]]]
    assert sorted(cloud.woken()) == ["web-east", "web-west"]
    assert "web-west" in cloud.run("anna", "curl", "-sS", "-m", "5", "http://web/")
    assert "web-east" in cloud.run("emil", "curl", "-sS", "-m", "5", "http://web.shop.named.internal/")


def test_all_kinds_of_questions_have_their_answers(cloud):
    ask = cloud.ask
    assert ask("anna", "WEB-East.named.INTERNAL", "AAAA")["answers"][0][3].startswith("fd57:6973:70::")
    service = ask("anna", "_http._tcp.web.named.internal", "SRV")
    assert [each[3] for each in service["answers"]] == [
        [0, 0, 80, "web-west.named.internal"],
        [1, 0, 80, "web-east.named.internal"],
    ]
    assert [cloud.addresses["web-west"]] == [each[3] for each in service["additional"] if each[1] == 1]
    assert ask("anna", "named.internal", "SOA")["answers"][0][1] == 6
    assert ask("emil", "anna.named.internal")["answers"][0][3].startswith("100.64.")
    nothing = ask("anna", "web.named.internal", "NS")
    assert (nothing["code"], nothing["answers"], nothing["authority"][0][1]) == (0, [], 6)
    unknown = ask("anna", "nobody.named.internal")
    assert (unknown["code"], unknown["authority"][0][1]) == (3, 6)
    assert ask("anna", "example.org")["code"] == 5
    assert ask("anna", "always.named.internal")["answers"][0][3] == cloud.addresses["always"]


def test_a_flood_for_unknown_names_starts_nothing_and_is_cut(cloud):
    before = cloud.states()
    answers = int(cloud.run("anna", "python3", str(CLIENT), "--flood", "named.internal", "5000"))
    assert 0 < answers < 1000
    assert cloud.woken() == []
    assert cloud.states() == before
    assert cloud.ask("emil", "web.named.internal")["code"] == 0


def test_a_start_that_fails_is_servfail_and_the_events_say_why(cloud):
    cloud.ask("emil", "bad.named.internal")
    wait_until(lambda: cloud.ask("emil", "bad.named.internal")["code"] == 2, within_s=5, what="SERVFAIL")
    told = [e["message"] for e in cloud.place.ok("events", "-c", "named") if e["subject"] == "bad"]
    assert any("bad-config: port" in message for message in told), told


def test_a_full_host_is_servfail_with_the_reason(cloud):
    assert cloud.ask("anna", "big.named.internal")["code"] == 0
    refused = cloud.ask("anna", "bigger.named.internal")
    assert refused["code"] == 2
    assert "w has no memory left for it" in refused["reason"]


def test_names_are_answered_while_no_controller_runs(cloud):
    controller = cloud.place.children("named")["controller"].pid
    os.kill(controller, signal.SIGSTOP)
    assert cloud.ask("anna", "web.named.internal")["answers"]
    assert "web-west" in cloud.run("anna", "curl", "-sS", "-m", "5", "http://web/")
    os.kill(controller, signal.SIGCONT)


def test_a_new_description_changes_the_answers(cloud):
    cloud.file.write_text(DESCRIPTION.replace("always:", "other:").replace("dns: {ttl: 7s}", "dns: {zone: shop.test}"))
    cloud.place.ok("up", cloud.file)
    assert cloud.ask("anna", "other.shop.test")["answers"]
    assert cloud.ask("anna", "always.shop.test")["code"] == 3
    assert "web-west" in cloud.run("anna", "curl", "-sS", "-m", "5", "http://web/")
