"""Golden command lines: each family is told its address in its own words."""

import json

import pytest
from tests.unit.drivers.instance.foreign.specs import spec

from wisp.drivers.instance.foreign.arguments import command_line, words
from wisp.model.image import Family
from wisp.primitives.errors import PermanentDriverError

CONFIG = (("level", "2"), ("verbose", ""))
COMMAND = ("/server", "-p", "80")
GOLDEN = {
    Family.UNIKRAFT: "netdev.ip=10.0.16.2/20:10.0.16.1 level=2 verbose -- /server -p 80",
    Family.OSV: "--ip=eth0,10.0.16.2,255.255.240.0 --defaultgw=10.0.16.1 --level=2 --verbose /server -p 80",
    Family.NANOS: (
        "en1.ipaddr=10.0.16.2 en1.netmask=255.255.240.0 en1.gateway=10.0.16.1 "
        "arguments.0=/server arguments.1=-p arguments.2=80 level=2 verbose"
    ),
    Family.LINUX: (
        "console=ttyS0 panic=-1 ip=10.0.16.2::10.0.16.1:255.255.240.0::eth0:off level=2 verbose -- /server -p 80"
    ),
    Family.SOLO5: "--ipv4=10.0.16.2/20 --ipv4-gateway=10.0.16.1 --level=2 --verbose /server -p 80",
    Family.NONE: "level=2 verbose /server -p 80",
    Family.RUMPRUN: (
        '{"net":{"if":"vioif0","type":"inet","method":"static","addr":"10.0.16.2","mask":"20","gw":"10.0.16.1"},'
        '"env":"level=2","env":"verbose=","rc":[{"bin":"/server","argv":["-p","80"]}]}'
    ),
}


@pytest.mark.parametrize("family", Family)
def test_each_family_has_its_own_words(family: Family) -> None:
    assert command_line(family, spec(config=CONFIG, command=COMMAND)) == GOLDEN[family]


@pytest.mark.parametrize(
    ("family", "line"),
    [
        (Family.UNIKRAFT, "netdev.ip=10.0.16.2/20:10.0.16.1 --"),
        (Family.LINUX, "console=ttyS0 panic=-1 ip=10.0.16.2::10.0.16.1:255.255.240.0::eth0:off"),
        (Family.NONE, ""),
    ],
)
def test_nothing_to_say_is_said_briefly(family: Family, line: str) -> None:
    assert command_line(family, spec()) == line


@pytest.mark.parametrize(
    ("family", "config", "said", "not_said"),
    [
        (Family.UNIKRAFT, ("netdev.ip", "172.16.0.2/24"), "netdev.ip=172.16.0.2/24", "10.0.16.2"),
        (Family.LINUX, ("ip", "dhcp"), "ip=dhcp", "10.0.16.2"),
        (Family.LINUX, ("console", "hvc0"), "console=hvc0", "ttyS0"),
        (Family.OSV, ("defaultgw", "10.9.9.9"), "--defaultgw=10.9.9.9", "10.0.16.1"),
        (Family.SOLO5, ("ipv4", "10.1.1.1/8"), "--ipv4=10.1.1.1/8", "10.0.16.2"),
        (Family.SOLO5, ("solo5.net", "uplink"), "--ipv4=10.0.16.2/20", "uplink"),
    ],
)
def test_the_description_wins(family: Family, config: tuple[str, str], said: str, not_said: str) -> None:
    line = command_line(family, spec(config=(config,)))
    assert said in line
    assert not_said not in line


def test_rumprun_is_told_in_json() -> None:
    said = json.loads(command_line(Family.RUMPRUN, spec(config=(("motto", 'a "b" c'),))))
    assert said["env"] == 'motto=a "b" c'
    assert said["net"]["addr"] == "10.0.16.2"


@pytest.mark.parametrize("word", ["two words", "a\nb", "a\0b", "a\tb"])
def test_a_word_with_a_space_is_refused(word: str) -> None:
    with pytest.raises(PermanentDriverError, match=r"web-1: .*spaces divide words"):
        words(Family.LINUX, spec(command=(word,)))
