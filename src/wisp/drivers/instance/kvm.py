"""What runs a guest's instructions: KVM where a tiny guest proves that it works, else TCG.

``/dev/kvm`` proves nothing: inside another hypervisor it may open, make virtual machines, and then crawl or abort.
So a guest that leaves at its first instruction is booted with a deadline, once per machine start; the verdict is kept.
"""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import msgspec

KVM_DEVICE = Path("/dev/kvm")
PROBE_DEADLINE_S = 1.5
# isa-debug-exit ends QEMU with (value << 1) | 1; the probe guest writes 0.
EXPECTED_STATUS = 1


class Accelerator(msgspec.Struct, frozen=True, kw_only=True):
    """What runs a guest's instructions.

    Attributes:
        name: ``kvm`` or ``tcg``, as QEMU's ``-accel`` takes it.
        cpu: The processor shown to the guest, as ``-cpu`` takes it.
        sentence: Why this one, for ``wisp doctor``.
    """

    name: str
    cpu: str
    sentence: str


def tcg(sentence: str) -> Accelerator:
    """Give QEMU's own translator."""
    return Accelerator(name="tcg", cpu="max", sentence=sentence)


async def find_accelerator(qemu: str, probe_guest: Path, cache: Path, *, device: Path = KVM_DEVICE) -> Accelerator:
    """Give the verdict for this machine, from ``cache`` when it was found since the machine started.

    Args:
        qemu: QEMU's path.
        probe_guest: An image that leaves at its first instruction.
        cache: File of the verdict, which holds until the machine is started again.
        device: KVM's device.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
        kept_boot, verdict = msgspec.json.decode(cache.read_bytes(), type=tuple[str, Accelerator])
        if kept_boot == boot:
            return verdict
    verdict = await probe(qemu, probe_guest, device)
    with suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        unfinished = cache.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(msgspec.json.encode((boot, verdict)))
        unfinished.replace(cache)
    return verdict


async def probe(qemu: str, probe_guest: Path, device: Path) -> Accelerator:
    """Boot the probe guest on KVM with a deadline and say what that means."""
    if not os.access(device, os.R_OK | os.W_OK):
        return tcg(f"no access to {device}; guests run on QEMU's translator")
    process = await asyncio.create_subprocess_exec(
        qemu, "-M", "microvm,acpi=off", "-accel", "kvm", "-cpu", "host", "-m", "16M", "-nodefaults",
        "-no-user-config", "-no-reboot", "-display", "none", "-device", "isa-debug-exit", "-kernel", str(probe_guest),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PROBE_DEADLINE_S):
            status = await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        return tcg(f"{device} is there, but a tiny guest did not finish in {PROBE_DEADLINE_S} s; guests run on TCG")
    if status != EXPECTED_STATUS:
        return tcg(f"{device} is there, but a tiny guest failed on it (status {status}); guests run on TCG")
    return Accelerator(name="kvm", cpu="host", sentence="KVM works: a tiny guest ran and left as it should")
