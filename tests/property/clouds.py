"""Random descriptions of clouds that the parser accepts."""

from pathlib import PurePath
from typing import Any

import yaml
from hypothesis import strategies as st

from wisp.codec.description import parse
from wisp.model.description import DesiredState

BASE = PurePath("/clouds/test")
KINDS = ["unikernel/microvm", "unikernel/spt", "unikernel/image", "vm", "process"]
SIZES = ["8MiB", "16MiB", "100MiB", "1GiB"]
TEXTS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=12).map(
    lambda text: text.replace("${", "$ {")
)


def shapes() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            "rate": st.sampled_from(["250kbit", "20Mbit/s", "1Gbit", "12345bit"]),
            "delay": st.sampled_from(["1ms", "2500us", "10ms", "0.25s"]),
            "loss": st.sampled_from(["1%", "250ppm", "0.5%"]),
            "queue": st.integers(1, 5000),
        },
    )


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a document, as plain values."""
    sites = [f"site-{index}" for index in range(draw(st.integers(1, 4)))]
    hosts = [f"host-{index}" for index in range(draw(st.integers(1, 6)))]
    points = [f"point-{index}" for index in range(draw(st.integers(0, 3)))]
    document: dict[str, Any] = {
        "cloud": "test",
        "sites": {site: draw(_site()) for site in sites},
        "hosts": {host: draw(_host(sites)) for host in hosts},
        "access_points": {point: {"host": draw(st.sampled_from(hosts)), **draw(shapes())} for point in points},
        "images": {
            "web": {"role": "web", "content": "web", "options": {"port": draw(st.integers(1, 65535))}},
            "theirs": draw(_foreign()),
        },
        "vnfds": {f"vnfd-{index}": draw(_vnfd()) for index in range(draw(st.integers(1, 3)))},
        "secrets": {"token": {"environment": "TOKEN"}},
    }
    routers = [f"router-{index}" for index in range(draw(st.integers(0, 3)))]
    document["routers"] = {router: draw(_router()) for router in routers}
    if len(hosts) + len(routers) > 1:
        document["links"] = draw(_links([*hosts, *routers]))
    document["routing"] = draw(_routing())
    devices = [f"device-{index}" for index in range(draw(st.integers(0, 3)) if points else 0)]
    profiles = [f"vnf-{index}" for index in range(draw(st.integers(0, 5)))]
    document["devices"] = {device: draw(_device(points)) for device in devices}
    document["network_services"] = {
        "service": {
            "vnfs": {vnf: draw(_vnf(document, devices, profiles[:index])) for index, vnf in enumerate(profiles)}
        }
    }
    return document


def clouds() -> st.SearchStrategy[DesiredState]:
    """Draw a desired state."""
    return documents().map(read).filter(lambda read: isinstance(read, DesiredState))


def read(document: dict[str, Any]) -> Any:
    """Parse a document."""
    return parse(yaml.safe_dump(document, allow_unicode=True, sort_keys=False), file="test.yaml", base=BASE)


def _foreign() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"file": st.sampled_from(["kernel.elf", "/images/kernel", "sha256:0123"])},
        optional={
            "initrd": st.just("initrd.cpio"),
            "disk": st.just("sha256:4567"),
            "protocol": st.sampled_from(["pvh", "linux"]),
            "family": st.sampled_from(["unikraft", "none"]),
            "machine": st.sampled_from(["microvm", "pc"]),
        },
    )


def _site() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={"latitude": st.integers(-90, 90), "longitude": st.sampled_from(["4.25", "-0.00001"]), "zone": TEXTS},
    )


def _router() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={"latitude": st.integers(-90, 90), "longitude": st.just("4.25")})


def _host(sites: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "site": st.sampled_from(sites),
            "cpu": st.sampled_from(["1", "250m", "4", "0.5"]),
            "memory": st.sampled_from(["32MiB", "256MiB", "2GiB"]),
        },
        optional={
            "kinds": st.lists(st.sampled_from(KINDS), min_size=1, unique=True),
            "world": st.sampled_from(["emulated"]),
            "power": st.just({"idle": "6W", "peak": "25.5W"}),
            "price": st.just("0.0125/h"),
        },
    )


def _weight() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={"weight": st.integers(1, 4)})


def _routing() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={"by": st.sampled_from(["delay", "weight"]), "backups": st.booleans()})


@st.composite
def _links(draw: st.DrawFn, hosts: list[str]) -> dict[str, Any]:
    links = {}
    for index in range(draw(st.integers(0, 2 * len(hosts)))):
        ends = draw(st.lists(st.sampled_from(hosts), min_size=2, max_size=2, unique=True))
        links[f"link-{index}"] = {"between": ends, **draw(shapes()), **draw(_weight())}
        if draw(st.booleans()):
            links[f"link-{index}"]["backward"] = draw(shapes())
    return links


@st.composite
def _vnfd(draw: st.DrawFn) -> dict[str, Any]:
    return {"vdus": {f"vdu-{index}": draw(_vdu()) for index in range(draw(st.integers(1, 2)))}}


@st.composite
def _vdu(draw: st.DrawFn) -> dict[str, Any]:
    vdu: dict[str, Any] = {
        "kind": draw(st.sampled_from(KINDS)),
        "cpu": draw(st.sampled_from(["10m", "100m", "0.5"])),
        "memory": draw(st.sampled_from(SIZES)),
    }
    if vdu["kind"] == "process":
        vdu["command"] = ["${python}", "${here}/x.py", draw(TEXTS)]
        vdu["config"] = {"TOKEN": "a ${secret.token}", "TEXT": draw(TEXTS)}
    elif vdu["kind"] in ("unikernel/image", "vm"):
        vdu["image"] = "theirs"
        vdu["command"] = ["--to", "${own.gateway}"]
        vdu["config"] = {"net.ip": "${own.address}/${own.prefix}"}
    else:
        vdu["image"] = "web"
        vdu["config"] = {"window": "10s", "text": draw(TEXTS)}
    if draw(st.booleans()):
        vdu["health"] = {"protocol": "tcp", "port": 81, "interval": "2.5s", "failures": 1}
    return vdu


def _device(points: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    workload = st.fixed_dictionaries(
        {"command": st.just(["${python}", "x"])},
        optional={"paused": st.booleans(), "environment": st.dictionaries(st.just("A"), TEXTS)},
    )
    return st.fixed_dictionaries({"access_point": st.sampled_from(points)}, optional={"workload": workload})


@st.composite
def _vnf(draw: st.DrawFn, document: dict[str, Any], devices: list[str], others: list[str]) -> dict[str, Any]:
    sites, hosts = list(document["sites"]), list(document["hosts"])
    vnf: dict[str, Any] = {"vnfd": draw(st.sampled_from(list(document["vnfds"])))}
    placement: dict[str, Any] = {}
    if draw(st.booleans()):
        vnf["sites"] = draw(st.one_of(st.just("all"), st.lists(st.sampled_from(sites), min_size=1, unique=True)))
    elif draw(st.booleans()):
        placement["sites"] = draw(st.lists(st.sampled_from(sites), min_size=1, unique=True))
    if draw(st.integers(0, 3)) == 0:
        placement["hosts"] = draw(st.lists(st.sampled_from(hosts), min_size=1, unique=True))
    if others and draw(st.booleans()):
        which = draw(st.sampled_from(["affinity", "anti_affinity"]))
        placement[which] = draw(st.lists(st.sampled_from(others), min_size=1, max_size=2, unique=True))
    if draw(st.integers(0, 3)) == 0:
        placement["latency"] = {draw(st.sampled_from(sites + devices)): draw(st.sampled_from(["0us", "5ms", "1s"]))}
    if draw(st.booleans()):
        vnf["egress"] = True
    vdus = document["vnfds"][vnf["vnfd"]]["vdus"].values()
    if all(vdu.get("image") == "web" for vdu in vdus) and draw(st.booleans()):
        vnf |= {"min_instances": 0, "idle_timeout": draw(st.sampled_from(["200ms", "30s"]))}
        if all(vdu["kind"] == "unikernel/microvm" for vdu in vdus):
            vnf["when_idle"] = draw(st.sampled_from(["deleted", "stopped", "snapshotted"]))
    if all(vdu.get("image") == "web" for vdu in vdus) and draw(st.integers(0, 3)) == 0:
        vnf["max_instances"] = draw(st.integers(2, 4))
        vnf["drain"] = draw(st.sampled_from(["1s", "10s"]))
        measures = {"rate": st.just(50), "cpu": st.just("80%"), "latency": st.just("20ms"), "calm": st.just("5s")}
        vnf["scaling"] = draw(st.fixed_dictionaries({}, optional=measures))
    return {**vnf, "placement": placement} if placement else vnf
