"""Chooses and wires the drivers of an emulated cloud."""

import sys
from collections.abc import Mapping

from wisp.assembly.images import file_store, image_store
from wisp.assembly.secrets import kept_values
from wisp.assembly.settings import CloudFolder, Settings
from wisp.drivers.clock.system import monotonic_offset_ns
from wisp.drivers.instance.container.driver import ContainerDriver
from wisp.drivers.instance.container.unpack import Trees
from wisp.drivers.instance.foreign.driver import ForeignDriver
from wisp.drivers.instance.kept import KeptChildren
from wisp.drivers.instance.kvm import Accelerator, find_accelerator, tcg
from wisp.drivers.instance.microvm import MicrovmDriver, find_qemu
from wisp.drivers.instance.process import ProcessDriver
from wisp.drivers.instance.snapshot import Snapshots
from wisp.drivers.instance.spt import SptDriver
from wisp.drivers.keeper.client import KeeperClient
from wisp.drivers.names import NameServers
from wisp.drivers.network.emulated import EmulatedNetwork
from wisp.drivers.prober import NamespaceProber
from wisp.model.description import Kind
from wisp.model.instance import InstanceSpec
from wisp.model.zone import RESOLVER_ADDRESS, RESOLVER_PORT
from wisp.ports.instance import InstanceDriver, WarmPools
from wisp.primitives.errors import MissingPrerequisite
from wisp.primitives.values import frozen


@frozen
class Hands:
    """The drivers of one cloud, wired."""

    keeper: KeeperClient
    children: KeptChildren
    network: EmulatedNetwork
    drivers: Mapping[Kind, InstanceDriver]
    prober: NamespaceProber
    pools: WarmPools
    names: NameServers

    async def secrets_of(self, spec: InstanceSpec) -> Mapping[str, str]:
        """Give the values of the secrets that a spec names."""
        return await kept_values(self.keeper, (name for name, _ in spec.secrets))


async def make_hands(folder: CloudFolder, settings: Settings) -> Hands:
    """Connect to the cloud's keeper and make its drivers."""
    keeper = await KeeperClient.connect(folder.path)
    children = KeptChildren(keeper, folder.logs, epoch_offset_ns=monotonic_offset_ns())
    network = EmulatedNetwork(keeper, native=settings.native, log=folder.logs / "delay.log")
    accelerator = await machine_accelerator(settings)
    microvm = microvm_driver(children, settings, accelerator, Snapshots(folder.snapshots))
    return Hands(
        keeper=keeper,
        children=children,
        network=network,
        drivers=instance_drivers(children, settings, microvm, accelerator),
        prober=NamespaceProber(network.socket_in),
        pools=microvm,
        names=NameServers(
            keeper,
            lambda namespace: network.listeners(namespace, RESOLVER_ADDRESS, RESOLVER_PORT),
            native=settings.native,
            log=folder.logs / "dns.log",
        ),
    )


def microvm_driver(
    children: KeptChildren, settings: Settings, accelerator: Accelerator, snapshots: Snapshots
) -> MicrovmDriver:
    """Give the driver of unikernels in virtual machines."""
    return MicrovmDriver(
        children,
        image_store(settings),
        accelerator,
        search_path=settings.search_path,
        native=settings.native,
        snapshots=snapshots,
    )


def instance_drivers(
    children: KeptChildren, settings: Settings, microvm: MicrovmDriver, accelerator: Accelerator
) -> Mapping[Kind, InstanceDriver]:
    """Give one driver per kind."""
    files = file_store(settings)
    return {
        Kind.MICROVM: microvm,
        Kind.SPT: SptDriver(children, image_store(settings)),
        Kind.IMAGE: ForeignDriver(Kind.IMAGE, children, files, accelerator, settings.search_path),
        Kind.VM: ForeignDriver(Kind.VM, children, files, accelerator, settings.search_path),
        Kind.CONTAINER: ContainerDriver(
            children,
            files,
            Trees(settings.images / "trees"),
            native=settings.native,
            search_path=settings.search_path,
        ),
        Kind.PROCESS: ProcessDriver(children, python=sys.executable, native=str(settings.native)),
    }


async def machine_accelerator(settings: Settings) -> Accelerator:
    """Give what runs guests' instructions here; found once per machine start."""
    try:
        qemu = find_qemu(settings.search_path)
    except MissingPrerequisite as missing:
        return tcg(str(missing))
    return await find_accelerator(qemu, settings.artifacts / "floor.microvm.elf", settings.cache / "accelerator.json")
