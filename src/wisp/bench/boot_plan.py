"""What the boot benchmark hands to its worker, and what it gets back: plain values that travel as JSON."""

from pathlib import Path

import msgspec

from wisp.drivers.instance.kvm import Accelerator

FLOOR, MICROVM, SPT, PROCESS, CONTAINER, LINUX = (
    "floor", "microvm web", "spt web", "plain process", "container (runc)", "Linux VM",
)  # fmt: skip
CASES = (FLOOR, MICROVM, SPT, PROCESS, CONTAINER, LINUX)


class Images(msgspec.Struct, frozen=True, kw_only=True):
    """Guest images, as they came with this installation.

    Attributes:
        floor: Leaves at its first instruction.
        microvm, spt: The ``web`` role without content.
    """

    floor: Path
    microvm: Path
    spt: Path


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """The container peer.

    Attributes:
        runc: Path of runc.
        bundle: OCI bundle.
    """

    runc: str
    bundle: Path


class Linux(msgspec.Struct, frozen=True, kw_only=True):
    """The Linux VM peer."""

    kernel: Path
    initrd: Path


class BootPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure.

    Attributes:
        runs: Measured starts per case; one more of each goes before them, unmeasured.
        crowd: Instances alive at once when memory is measured.
        memory_bytes: Memory of floor and microvm guests [byte].
        folder: Scratch folder; the caller removes it.
        qemu: Path of QEMU.
        server: Plain static server, run as a process; ``None`` leaves out that case.
        container, linux: Peers; ``None`` leaves out the case.
    """

    runs: int
    crowd: int
    memory_bytes: int
    folder: Path
    qemu: str
    accelerator: Accelerator
    images: Images
    server: Path | None
    container: Container | None
    linux: Linux | None


class CaseResult(msgspec.Struct, kw_only=True):
    """What was measured of one case.

    Attributes:
        elapsed_ms: One per round, in order [ms].
        pss_bytes: One per round that leaves something to look at [byte].
        crowd_pss_bytes: One per instance of the crowd [byte]; empty where no crowd was made.
        crowd_ms: From the crowd's first spawn until all of it has answered [ms].
        retries: Starts that stayed silent until the deadline and were tried once more.
        failure: Why the case was given up; empty when it was not.
    """

    elapsed_ms: list[float] = []
    pss_bytes: list[int] = []
    crowd_pss_bytes: list[int] = []
    crowd_ms: float | None = None
    retries: int = 0
    failure: str = ""


class Message(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line from the worker: progress until the last, which holds the results."""

    phase: str = ""
    done: int = 0
    total: int = 0
    results: dict[str, CaseResult] | None = None


def encode_plan(plan: BootPlan) -> bytes:
    """Give the plan as JSON; paths travel as text."""
    return msgspec.json.encode(plan, enc_hook=str)


def decode_plan(data: bytes) -> BootPlan:
    """Read back what :func:`encode_plan` gave."""
    return msgspec.json.decode(data, type=BootPlan, dec_hook=lambda kind, text: kind(text))
