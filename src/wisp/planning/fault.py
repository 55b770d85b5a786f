"""Which faults there can be in a cloud, and what those of a site mean."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from wisp.model.description import DesiredState
from wisp.model.fault import Fault, FaultKind


def breakable(desired: DesiredState, processes: Iterable[str]) -> Mapping[FaultKind, tuple[str, ...]]:
    """Give all names by what can break.

    Args:
        desired: What was declared.
        processes: Everything that runs, instances of several and workloads of devices included.
    """
    access = (f"device/{device.name}" for device in desired.devices)
    return {
        FaultKind.LINK: (*(link.name for link in desired.links), *access),
        FaultKind.HOST: tuple(host.name for host in desired.hosts),
        FaultKind.SITE: tuple(site.name for site in desired.sites),
        FaultKind.PROCESS: tuple(processes),
    }


def taken_apart(faults: Sequence[Fault], desired: DesiredState) -> tuple[Fault, ...]:
    """Give faults with each site's as faults of its hosts."""
    hosts = ((fault, host) for fault in faults if fault.kind is FaultKind.SITE for host in desired.hosts)
    return (
        *(fault for fault in faults if fault.kind is not FaultKind.SITE),
        *(replace(fault, kind=FaultKind.HOST, name=host.name) for fault, host in hosts if host.site == fault.name),
    )
