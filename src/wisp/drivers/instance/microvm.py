"""Unikernels as virtual machines: QEMU's ``microvm`` machine, on KVM where it truly works, else TCG.

QEMU runs in the keeper's empty network namespace, without capabilities and under its own seccomp filter; all it
has of the network is the tap descriptor handed to it.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from wisp.drivers.instance.guest import (
    CONFIDENTIAL_DESCRIPTOR,
    Images,
    confidential,
    configuration_line,
    identity,
    image_of,
)
from wisp.drivers.instance.kept import Command, KeptChildren
from wisp.drivers.instance.kvm import Accelerator
from wisp.drivers.instance.snapshot import Snapshots
from wisp.drivers.keeper.client import Tended
from wisp.model.description import Kind, WhenIdle
from wisp.model.instance import Handle, InstanceSpec, WarmPool
from wisp.ports.instance import Capabilities, Exit, Fingerprint
from wisp.primitives.errors import MissingPrerequisite
from wisp.primitives.time import Duration
from wisp.primitives.values import frozen

QEMU = "qemu-system-x86_64"
INSTALL_QEMU = "sudo apt-get install -y --no-install-recommends qemu-system-x86"
TAP_DESCRIPTOR = 3
CONFIDENTIAL_FILE = "opt/wisp/confidential"
OPEN_FILES = 256
# What the tender gives QEMU under these numbers.
TENDED_CONSOLE, TENDED_NETWORK = 4, 5
# isa-debug-exit ends QEMU with (value << 1) | 1; an idle guest writes 0.
IDLE_STATUS = 1
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


@frozen
class Hypervisor:
    """The QEMU of this machine.

    Attributes:
        program: Its path.
        accelerator: What runs the guest's instructions.
    """

    program: str
    accelerator: Accelerator


class MicrovmDriver:
    """Starts guests in virtual machines.

    Args:
        children: The keeper's.
        images: Where images are kept.
        accelerator: What runs the guests' instructions.
        search_path: Where QEMU is looked for.
        native: ``wisp-native``, for the tender.
        snapshots: Where guests that nobody wants are put away.
    """

    def __init__(
        self,
        children: KeptChildren,
        images: Images,
        accelerator: Accelerator,
        *,
        search_path: str,
        native: Path,
        snapshots: Snapshots,
    ) -> None:
        self._children, self._images, self._snapshots = children, images, snapshots
        self._accelerator, self._search_path, self._native = accelerator, search_path, native

    def capabilities(self) -> Capabilities:
        """Give what it can do."""
        return Capabilities(
            kind=Kind.MICROVM, isolation="hardware-vm", snapshot=True, pause=True, memory_limit_enforced=True
        )

    async def fingerprint(self) -> Fingerprint:
        """Say whether QEMU is here and what runs the guests' instructions."""
        program = shutil.which(QEMU, path=self._search_path)
        if program is None:
            return Fingerprint(healthy=False, sentence=f"no {QEMU} on this machine", remedy=INSTALL_QEMU)
        return Fingerprint(healthy=True, sentence=f"{program}, guests on {self._accelerator.name.upper()}")

    async def start(self, spec: InstanceSpec, secrets: Mapping[str, str]) -> Handle:
        """Spawn the virtual machine; see the port."""
        image = self._images.sealed(image_of(spec), spec.kind.target)
        hypervisor = self._hypervisor()
        if spec.is_summoned:
            words = tended_arguments(image, hypervisor, spec.memory_bytes, told="now")
            tended = self._tended(spec, words, identity(spec, secrets))
            return await self._children.spawn(spec, replace(self._tender(words), tended=tended, wakes_on=tended.tap))
        with confidential(spec, secrets) as passed:
            return await self._children.spawn(spec, command(spec, image, hypervisor), passed)

    async def keep_warm(self, pools: Sequence[WarmPool]) -> int:
        """Have guests of these pools boot ahead, and of no others; see :class:`wisp.ports.instance.WarmPools`."""
        await self._children.empty_pools({pool.name for pool in pools})
        filled = 0
        for pool in pools:
            image = self._images.sealed(pool.image, Kind.MICROVM.target)
            words = tended_arguments(image, self._hypervisor(), pool.memory_bytes, told="later")
            filled += await self._children.fill(pool, self._tender(words))
        return filled

    def _hypervisor(self) -> Hypervisor:
        return Hypervisor(program=find_qemu(self._search_path), accelerator=self._accelerator)

    def _tended(self, spec: InstanceSpec, words: Sequence[str], line: str) -> Tended:
        is_put_away = spec.when_idle is WhenIdle.SNAPSHOTTED
        return Tended(
            identity=line,
            tap=f"tap/{spec.name}",
            pool=spec.pool,
            is_stopped=spec.when_idle is WhenIdle.STOPPED,
            snapshot=self._snapshots.place(spec, words, line) if is_put_away else None,
        )

    def _tender(self, words: Sequence[str]) -> Command:
        return Command(
            argv=(str(self._native), "tender", "--", *words),
            open_files=OPEN_FILES,
            small_pages=True,
            idle_status=IDLE_STATUS,
        )

    async def recover(self, handle: Handle) -> Exit | None:
        """Say how it ended, or ``None`` while it runs."""
        return await self._children.ended(handle)

    async def stop(self, handle: Handle, *, grace: Duration) -> None:
        """End it at once: a guest has nothing to put away."""
        await self._children.stop(handle, grace=Duration(min(grace.ns, 0)))
        self._snapshots.remove(handle)


def find_qemu(search_path: str) -> str:
    """Give QEMU's path.

    Raises:
        MissingPrerequisite: It is not installed.
    """
    program = shutil.which(QEMU, path=search_path)
    if program is None:
        raise MissingPrerequisite(f"no {QEMU} on this machine", remedy=INSTALL_QEMU, driver=Kind.MICROVM)
    return program


def command(spec: InstanceSpec, image: Path, hypervisor: Hypervisor) -> Command:
    """Give the QEMU process of a guest."""
    machine = machine_arguments(hypervisor, memory_bytes=spec.memory_bytes)
    line = configuration_line(spec, with_mac=False)
    network = network_arguments(tap_descriptor=TAP_DESCRIPTOR, mac=spec.mac or "")
    return Command(
        argv=(*machine, "-kernel", str(image), "-append", line, *network, *confidential_arguments(spec)),
        held={TAP_DESCRIPTOR: f"tap/{spec.name}"},
        open_files=OPEN_FILES,
        small_pages=True,
    )


def tended_arguments(image: Path, hypervisor: Hypervisor, memory_bytes: int, *, told: str) -> tuple[str, ...]:
    """Give QEMU's command line for a guest that is told who it is by its tender (see ``native``).

    Args:
        image: What it boots.
        hypervisor: Program and accelerator.
        memory_bytes: Its memory [byte].
        told: ``now``, or ``later`` for one with time to rehearse until then.
    """
    console = "chardev:console"
    return (
        *machine_arguments(hypervisor, memory_bytes=memory_bytes, serial=console),
        "-chardev", f"socket,id=console,fd={TENDED_CONSOLE}",
        "-kernel", str(image), "-append", f"told={told}",
        "-netdev", f"socket,id=n0,fd={TENDED_NETWORK}",
        "-device", "virtio-net-device,netdev=n0",
    )  # fmt: skip


def confidential_arguments(spec: InstanceSpec) -> tuple[str, ...]:
    """Give QEMU's file of confidential options, for a guest that has some; it reads the inherited descriptor."""
    if not spec.secrets:
        return ()
    return "-fw_cfg", f"name={CONFIDENTIAL_FILE},file=/proc/self/fd/{CONFIDENTIAL_DESCRIPTOR}"


def machine_arguments(hypervisor: Hypervisor, *, memory_bytes: int, serial: str = "stdio") -> tuple[str, ...]:
    """Give QEMU's command line without image and network; the benchmark's floor uses the same.

    Args:
        hypervisor: Program and accelerator.
        memory_bytes: The guest's memory [byte], rounded up to whole KiB.
        serial: What the guest's console is connected to.
    """
    # An idle PIT would wake QEMU 36 times a second.
    return (
        hypervisor.program,
        "-M", "microvm,acpi=off,pit=off,pic=off,rtc=off,isa-serial=on,auto-kernel-cmdline=on",
        "-accel", hypervisor.accelerator.name,
        "-cpu", hypervisor.accelerator.cpu,
        "-m", f"{-(-memory_bytes // 1024)}K",
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-global", "virtio-mmio.force-legacy=false",
        "-serial", serial, "-monitor", "none",
        "-device", "isa-debug-exit",
        "-sandbox", SANDBOX,
    )  # fmt: skip


def network_arguments(*, tap_descriptor: int, mac: str) -> tuple[str, ...]:
    """Give QEMU's network device on an inherited tap."""
    return (
        "-netdev", f"tap,id=n0,fd={tap_descriptor},vhost=off",
        "-device", f"virtio-net-device,netdev=n0,mac={mac}",
    )  # fmt: skip
