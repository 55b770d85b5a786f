"""How each family of images is told its address, options and arguments; pure functions from a spec to words.

An option of the instance's ``config`` wins over what Wisp would say by itself. Sources: Unikraft
``lib/uknetdev`` (``netdev.ip``); rumprun ``doc/config.md``; OSv ``loader.cc``; Nanos ``boot_args``; Linux
``Documentation/admin-guide/nfs/nfsroot.rst`` (``ip=``); MirageOS ``mirage-runtime`` (``--ipv4``).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_network

from wisp.model.image import Family
from wisp.model.instance import InstanceSpec
from wisp.primitives.errors import PermanentDriverError

# Options that speak to Wisp's driver, not to the guest.
NETWORK_DEVICE = "solo5.net"
DRIVERS_OWN = (NETWORK_DEVICE,)
LINUX_CONSOLE = {"console": "ttyS0", "panic": "-1"}
Builder = Callable[[InstanceSpec], Iterator[str]]


def command_line(family: Family, spec: InstanceSpec) -> str:
    """Give the command line that a kernel of ``family`` is started with.

    Raises:
        PermanentDriverError: A word cannot stand on a command line.
    """
    if family is Family.RUMPRUN:
        return rumprun(spec)
    return " ".join(words(family, spec))


def words(family: Family, spec: InstanceSpec) -> tuple[str, ...]:
    """Give the words of the command line; of Solo5 they are the program's arguments.

    Raises:
        PermanentDriverError: A word has a space in it, or ends the line.
    """
    found = tuple(BUILDERS[family](spec))
    for word in found:
        if any(character.isspace() or not character.isprintable() for character in word):
            raise PermanentDriverError(
                f"{spec.name}: {word!r} cannot stand on the command line of {family}, where spaces divide words; "
                "write the words one by one",
                driver=spec.kind,
                operation="start",
                subject=spec.name,
            )
    return found


def unikraft(spec: InstanceSpec) -> Iterator[str]:
    """Give ``netdev.ip=CIDR:GATEWAY OPTION=VALUE -- ARGUMENT``."""
    own = {"netdev.ip": f"{_cidr(spec)}:{spec.gateway}"}
    yield from _pairs(own | _options(spec))
    yield "--"
    yield from spec.command


def osv(spec: InstanceSpec) -> Iterator[str]:
    """Give ``--ip=eth0,ADDRESS,MASK --defaultgw=GATEWAY --OPTION=VALUE PROGRAM ARGUMENT``."""
    own = {"ip": f"eth0,{spec.address},{_netmask(spec)}", "defaultgw": str(spec.gateway)}
    yield from (f"--{pair}" for pair in _pairs(own | _options(spec)))
    yield from spec.command


def nanos(spec: InstanceSpec) -> Iterator[str]:
    """Give ``en1.ipaddr=ADDRESS`` and the like, and ``arguments.N=ARGUMENT``."""
    own = {"en1.ipaddr": str(spec.address), "en1.netmask": _netmask(spec), "en1.gateway": str(spec.gateway)}
    own |= {f"arguments.{index}": word for index, word in enumerate(spec.command)}
    return _pairs(own | _options(spec))


def linux(spec: InstanceSpec) -> Iterator[str]:
    """Give ``ip=ADDRESS::GATEWAY:MASK::eth0:off OPTION=VALUE -- ARGUMENT``; arguments go to ``init``."""
    own = {"ip": f"{spec.address}::{spec.gateway}:{_netmask(spec)}::eth0:off"}
    yield from _pairs(LINUX_CONSOLE | own | _options(spec))
    if spec.command:
        yield "--"
        yield from spec.command


def solo5(spec: InstanceSpec) -> Iterator[str]:
    """Give ``--ipv4=CIDR --ipv4-gateway=GATEWAY --OPTION=VALUE ARGUMENT``, as MirageOS reads them."""
    own = {"ipv4": _cidr(spec), "ipv4-gateway": str(spec.gateway)}
    yield from (f"--{pair}" for pair in _pairs(own | _options(spec)))
    yield from spec.command


def plain(spec: InstanceSpec) -> Iterator[str]:
    """Give what the description says, and nothing else."""
    yield from _pairs(_options(spec))
    yield from spec.command


def rumprun(spec: InstanceSpec) -> str:
    """Give rumprun's JSON: the network, an ``env`` for each option, and the program with its arguments."""
    net = {"if": "vioif0", "type": "inet", "method": "static", "addr": spec.address}
    net |= {"mask": str(spec.prefix_length), "gw": spec.gateway}
    # Keys are repeated: rumprun reads them one after the other.
    entries = [("net", json.dumps(net, separators=(",", ":")))]
    entries += [("env", json.dumps(f"{key}={value}")) for key, value in _options(spec).items()]
    if spec.command:
        program = {"bin": spec.command[0], "argv": list(spec.command[1:])}
        entries.append(("rc", json.dumps([program], separators=(",", ":"))))
    return "{" + ",".join(f'"{key}":{value}' for key, value in entries) + "}"


BUILDERS: Mapping[Family, Builder] = {
    Family.UNIKRAFT: unikraft,
    Family.OSV: osv,
    Family.NANOS: nanos,
    Family.LINUX: linux,
    Family.SOLO5: solo5,
    Family.NONE: plain,
}


def _options(spec: InstanceSpec) -> dict[str, str]:
    return {key: value for key, value in spec.config if key not in DRIVERS_OWN}


def _pairs(options: Mapping[str, str]) -> Iterator[str]:
    """Give ``key=value``, or the key alone where the value is empty."""
    return (f"{key}={value}" if value else key for key, value in options.items())


def _cidr(spec: InstanceSpec) -> str:
    return f"{spec.address}/{spec.prefix_length}"


def _netmask(spec: InstanceSpec) -> str:
    return str(ip_network(f"0.0.0.0/{spec.prefix_length}").netmask)
