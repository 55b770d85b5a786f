"""Every way a description can be wrong, with the line, the path, what is said and the hint."""

from pathlib import Path, PurePath

import pytest

from wisp.codec.description import PROBLEM_LIMIT, parse
from wisp.model.description import DesiredState, Kind, LatencyBound, LinkShape, PublishedPort
from wisp.primitives.time import Duration

BASE = PurePath("/clouds")
EXAMPLES = Path(__file__).parents[3] / "examples"
GOOD = """\
cloud: good
sites:
  north: {}
  south:
hosts:
  pc-1: {site: north, cpu: 2, memory: 1GiB}
  pc-2: {site: south, cpu: 500m, memory: 512MiB, kinds: [process]}
links:
  cable: {between: [pc-1, pc-2], rate: 20Mbit, delay: 5ms, jitter: 1ms, loss: 0.5%, backward: {delay: 7ms}}
access_points:
  radio: {host: pc-1, technology: wifi, up: {rate: 1Mbit}}
devices:
  sensor: {access_point: radio, workload: {command: ["${python}", "${here}/s.py", "${address.web}"]}}
  real: {access_point: radio, external: {listen: "127.0.0.1:5683", to: "web:80"}}
images:
  page: {role: web, content: web/}
vnfds:
  web:
    vdus:
      main: {kind: unikernel/spt, image: page, memory: 8MiB, config: {greeting: hello}}
app_descriptors_are_an_alias_only: {}
network_services:
  ns:
    vnfs:
      web: {vnfd: web, placement: {latency: {sensor: 10ms}}, publish: ["8080:80", "0.0.0.0:53:53/udp"]}
      copy: {vnfd: web, sites: all, config: {greeting: "hi ${secret.token}"}, egress: true}
secrets:
  token: {file: token.txt}
""".replace("app_descriptors_are_an_alias_only: {}\n", "")


def problems(text: str) -> list[str]:
    result = parse(text, file="f.yaml", base=BASE)
    assert isinstance(result, list), "was accepted"
    return [str(problem) for problem in result]


def good() -> DesiredState:
    result = parse(GOOD, file="f.yaml", base=BASE)
    assert isinstance(result, DesiredState), result
    return result


def test_a_good_description_becomes_values():
    state = good()
    cable = state.links[0]
    assert cable.forward == LinkShape(rate_bps=20_000_000, delay_us=5_000, jitter_us=1_000, loss_ppm=5_000)
    assert cable.backward.delay_us == 7_000
    assert cable.backward.rate_bps == 20_000_000
    assert state.hosts[1].cpu_millicores == 500
    assert state.hosts[1].kinds == (Kind.PROCESS,)
    assert state.images[0].content == "/clouds/web"
    assert state.secrets[0].file == "/clouds/token.txt"
    assert state.access_points[0].down == LinkShape()


def test_placeholders_of_the_file_are_filled_and_others_kept():
    workload = good().devices[0].workload
    assert workload is not None
    assert workload.command == ("${python}", "/clouds/s.py", "${address.web}")


def test_vnfs_become_instances():
    instances = {instance.name: instance for instance in good().instances}
    assert list(instances) == ["web", "copy-north", "copy-south"]
    web, copy = instances["web"], instances["copy-south"]
    assert web.constraints.latency == (LatencyBound(to="sensor", maximum_us=10_000),)
    assert web.publish[0] == PublishedPort(port=8080, target_port=80)
    assert web.publish[1] == PublishedPort(address="0.0.0.0", port=53, target_port=53, protocol="udp")
    assert web.vdu.config == {"greeting": "hello"}
    assert web.vdu.boot_deadline == Duration.of_seconds(10)
    assert copy.vdu.config == {"greeting": "hi ${secret.token}"}
    assert copy.constraints.sites == ("south",)
    assert copy.egress


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("cloud: good\n", "", "f.yaml:1: cloud: is missing"),
        ("cloud: good", "cloud: Good", "f.yaml:1: cloud: 'Good' cannot be a name (a name has at most 63"),
        ("hosts:", "host:", "f.yaml:5: host: unknown key 'host' (did you mean 'hosts'?)"),
        ("memory: 1GiB", "memroy: 1GiB", "f.yaml:6: hosts.pc-1.memroy: unknown key 'memroy' (did you mean 'memory'?)"),
        ("memory: 1GiB", "cpu: 1", "f.yaml:6: hosts.pc-1.cpu: is given twice, first in line 6"),
        ("  pc-2: {site", "  pc-1: {site", "f.yaml:7: hosts.pc-1: is given twice, first in line 6"),
        ("memory: 1GiB", "memory: 1", "hosts.pc-1.memory: '1' says no unit; write for example 128MiB"),
        ("memory: 1GiB", "memory: 1Gb", "hosts.pc-1.memory: '1Gb' has unknown unit 'Gb'; units are MiB, B"),
        ("memory: 1GiB", "memory: lots", "hosts.pc-1.memory: 'lots' is not a memory size"),
        ("memory: 1GiB", "memory: -1GiB", "hosts.pc-1.memory: '-1GiB' is not a memory size"),
        ("memory: 1GiB", "memory: 0B", "hosts.pc-1.memory: '0B' is out of range"),
        ("memory: 1GiB", "memory: 0.3B", "hosts.pc-1.memory: '0.3B' is finer than Wisp keeps (byte)"),
        ("memory: 1GiB", "memory: [1GiB]", "hosts.pc-1.memory: expected one value, found a list"),
        ("memory: 1GiB", "memory: ~", "hosts.pc-1.memory: has no value"),
        ("cpu: 2", "cpu: 0", "hosts.pc-1.cpu: '0' is out of range"),
        ("loss: 0.5%", "loss: 101%", "links.cable.loss: '101%' is out of range; a ratio is 0ppm to 100%"),
        ("rate: 20Mbit", "rate: 0bit", "links.cable.rate: '0bit' is out of range"),
        ("jitter: 1ms", "jitter: 6ms", "f.yaml:9: links.cable.forward: jitter is larger than delay"),
        ("kinds: [process]", "kinds: process", "kinds: expected a list, found 'process' (write [process])"),
        ("kinds: [process]", "kinds: [proces]", "hosts.pc-2.kinds[0]: 'proces' is not one of unikernel/microvm"),
        ("{site: north", "{site: nord", "f.yaml:6: hosts.pc-1.site: there is no site 'nord' (did you mean 'north'?)"),
        ("[pc-1, pc-2]", "[pc-1, pc-9]", "there is no host or router 'pc-9'"),
        ("[pc-1, pc-2]", "[pc-1]", "links.cable.between: must hold 2 entries, holds 1"),
        ("[pc-1, pc-2]", "[pc-1, pc-2, pc-1]", "links.cable.between: must hold 2 entries, holds 3"),
        ("[pc-1, pc-2]", "[pc-1, pc-1]", "links.cable.between: holds 'pc-1' twice"),
        ("host: pc-1", "host: pc-3", "access_points.radio.host: there is no host 'pc-3' (did you mean 'pc-2'?)"),
        ("role: web", "role: wed", "images.page.role: 'wed' is not one of aggregator, proxy, web (did you mean"),
        (", image: page", "", "vnfds.web.vdus.main.image: is missing (unikernel/spt starts from an image)"),
        ("image: page", "image: sage", "vnfds.web.vdus.main.image: there is no image 'sage' (did you mean 'page'?)"),
        ("image: page", "image: page, command: [x]", "vnfds.web.vdus.main.command: has no meaning for unikernel/spt"),
        ("unikernel/spt, image: page", "process", "vnfds.web.vdus.main.command: is missing (process runs a command)"),
        ("{greeting: hello}", "{ip: 1.2.3.4}", "vnfds.web.vdus.main.config.ip: 'ip' is set by Wisp itself"),
        ("{greeting: hello}", "{Greeting: x}", "vnfds.web.vdus.main.config.Greeting: 'Greeting' is no guest option"),
        ("vnfd: web, sites", "vnfd: wep, sites", "ns.vnfs.copy.vnfd: there is no vnfd 'wep' (did you mean 'web'?)"),
        ("sites: all", "sites: [west]", "vnfs.copy.sites[0]: there is no site 'west' (known: north, south)"),
        ("{latency", "{affinity: [wep], latency", "placement.affinity[0]: there is no instance or VNF 'wep'"),
        ("{sensor: 10ms}", "{censor: 10ms}", "latency.censor: there is no device or site 'censor' (did you"),
        ("{sensor: 10ms}", "{sensor: soon}", "latency.sensor: 'soon' is not a delay; write for example 5ms"),
        ("8080:80", "80800:80", "vnfs.web.publish[0]: port 80800 is out of range; a port is 1 to 65535"),
        ("8080:80", "http", "vnfs.web.publish[0]: 'http' is not [ADDRESS:]PORT:TARGET_PORT[/udp]"),
        ("8080:80", "h:1:80", "vnfs.web.publish[0]: 'h' is not an IPv4 address"),
        ('["8080:80", ', '["53:80/udp", ', "vnfs.web.publish: port 53/udp for web is taken by web"),
        ("egress: true", "egress: yes", "vnfs.copy.egress: 'yes' is not one of true, false"),
        ("${address.web}", "${address.wep}", "command[2]: there is no instance or device 'wep' (did you mean"),
        ("${address.web}", "${adress.web}", "command[2]: unknown placeholder '${adress.web}' (known: ${address.NAME}"),
        ("${address.web}", "${address.web", "command[2]: has '${' without '}'"),
        ("${address.web}", "${secret.token}", "command[2]: a secret ('token') in a command (hand it over"),
        ("${secret.token}", "${python}", "config.greeting: '${python}' stands for something in commands only"),
        ("${secret.token}", "${secret.tolken}", "config.greeting: there is no secret 'tolken' (did you mean 'token'?)"),
        ("{file: token.txt}", "{}", "secrets.token: must say either file or environment"),
        ('to: "web:80"', 'to: "wep:80"', "devices.real.external.to: there is no instance 'wep' (did you mean 'web'?)"),
        ('to: "web:80"', "to: web", "devices.real.external.to: 'web' is not NAME:PORT"),
        ("127.0.0.1:5683", "localhost:5683", "devices.real.external.listen: 'localhost' is not an IPv4 address"),
        ("  sensor:", "  copy-north:", "vnfs.copy: instance 'copy-north' has the name of devices.copy-north"),
        ("  ns:\n", "  ns: [\n", "not YAML"),
        ('["${python}"', "[${python}", "(put quotes around values that hold ${...})"),
        ("  north: {}", "\tnorth: {}", "(indent with spaces, not tabs)"),
    ],
)  # fmt: skip
def test_each_mistake_is_told(old, new, expected):
    assert old in GOOD
    told = problems(GOOD.replace(old, new, 1))
    assert any(expected in problem for problem in told), told


def test_all_mistakes_are_told_at_once_in_order():
    text = GOOD.replace("cpu: 2", "cpu: two").replace("role: web", "role: wed").replace("sites: all", "site: all")
    text = text.replace("host: pc-1", "host: pc-9")
    assert [problem.split(" ")[0] for problem in problems(text)] == [
        "f.yaml:6:",
        "f.yaml:11:",
        "f.yaml:16:",
        "f.yaml:25:",
    ]


def test_one_mistake_is_told_once():
    assert len(problems(GOOD.replace("web:\n    vdus", "wep:\n    vdus"))) == 2, "two VNFs name it"
    assert len(problems(GOOD.replace("cpu: 2", "cpu: two"))) == 1, "the host is known all the same"
    assert len(problems(GOOD.replace("      web: {vnfd: web", "      web: {vnfd: [web]"))) == 1, "so is the VNF"


def test_affinity_and_anti_affinity_may_not_contradict_each_other():
    text = GOOD.replace("sites: all", "placement: {affinity: [web]}")
    text += ""
    contradicting = text.replace("{latency", "{anti_affinity: [copy], latency")
    assert (
        "f.yaml:24: network_services.ns.vnfs.web.placement.anti_affinity: web must not share a host with copy"
        in (problems(contradicting)[0])
    )
    assert isinstance(parse(text, file="f.yaml", base=BASE), DesiredState)


def test_aliases_and_merge_keys_save_writing():
    text = "cloud: c\nsites: {a: {}, b: {}}\nhosts:\n  x: &x {site: a, cpu: 1, memory: 1GiB}\n  y: {<<: *x, site: b}\n"
    state = parse(text, file="f.yaml", base=BASE)
    assert isinstance(state, DesiredState)
    assert [host.site for host in state.hosts] == ["a", "b"]
    assert state.hosts[1].memory_bytes == 1 << 30


def test_nothing_is_guessed_about_scalars():
    text = "cloud: no\nsites: {on: {zone: 1e3}, 007: {zone: 2026-11-23}}\n"
    state = parse(text, file="f.yaml", base=BASE)
    assert isinstance(state, DesiredState)
    assert (state.name, [site.name for site in state.sites]) == ("no", ["on", "007"])
    assert [site.zone for site in state.sites] == ["1e3", "2026-11-23"]


def test_a_flood_of_problems_is_cut():
    told = problems("cloud: c\n" + "".join(f"x{number}: 1\n" for number in range(PROBLEM_LIMIT + 50)))
    assert len(told) == PROBLEM_LIMIT + 1
    assert told[-1] == "f.yaml: and 50 more problems"


def test_a_small_file_cannot_make_endless_instances():
    sites = "".join(f"  s{number}: {{}}\n" for number in range(300))
    vnfs = "".join(f"      v{number}: {{vnfd: web, sites: all}}\n" for number in range(300))
    text = GOOD.replace("sites:\n", f"sites:\n{sites}", 1).replace("    vnfs:\n", f"    vnfs:\n{vnfs}")
    assert any("makes more than 50000 instances" in problem for problem in problems(text))


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*/cloud.yaml")), ids=lambda file: file.parent.name)
def test_every_example_is_good(file):
    state = parse(file.read_text("utf-8"), file=str(file), base=file.parent)
    assert isinstance(state, DesiredState), state
    assert all(Path(image.content).is_dir() for image in state.images if image.content)
