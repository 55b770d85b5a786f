"""What the boot benchmark's measurements mean: figures with their bars, and the cases behind them."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wisp.bench import boot_plan, boot_worker, launch, linux_vm
from wisp.bench.boot_plan import BootPlan, CaseResult
from wisp.bench.figures import Figure, Report, percentile
from wisp.bench.machine import machine_facts, versions
from wisp.drivers.instance.microvm import QEMU

VERSIONS = {
    "qemu": (QEMU, "--version"),
    "runc": ("runc", "--version"),
    "busybox": ("busybox", "--help"),
}
Times = Mapping[str, list[float]]


def report(plan: BootPlan, results: Mapping[str, CaseResult], absent: Mapping[str, str]) -> Report:
    """Give the report of what the worker found.

    Args:
        plan: What was measured.
        results: Of the cases that ran.
        absent: Cases left out, with the reasons.
    """
    return Report(
        bench="boot",
        machine=machine_facts() | {"accelerator": plan.accelerator.name},
        versions=versions(VERSIONS),
        figures=figures(plan, results, absent),
        raw={
            "rounds": plan.runs,
            "guest_memory_bytes": plan.memory_bytes,
            "client": launch.CLIENT,
            "request": launch.REQUEST.decode(),
            "cases": {name: _raw_case(plan, name, result) for name, result in results.items()},
            "absent": dict(absent),
        },
    )


def figures(plan: BootPlan, results: Mapping[str, CaseResult], absent: Mapping[str, str]) -> tuple[Figure, ...]:
    """Give the benchmark's figures, each with its bar."""
    reasons = {name: result.failure for name, result in results.items() if result.failure} | dict(absent)
    times = {name: result.elapsed_ms for name, result in results.items() if not result.failure}
    images = {"spt": plan.images.spt.stat().st_size, "microvm": plan.images.microvm.stat().st_size}
    return (
        _ratio("microvm_over_floor", boot_plan.MICROVM, boot_plan.FLOOR, times, reasons, bar="<= 1.6"),
        _ratio("linux_vm_over_microvm", boot_plan.LINUX, boot_plan.MICROVM, times, reasons, bar=">= 30"),
        _median("spt_ms", boot_plan.SPT, times, reasons, bar="<= 1"),
        _ratio("spt_over_process", boot_plan.SPT, boot_plan.PROCESS, times, reasons, bar="<= 2.5"),
        _memory("spt_pss_bytes", results[boot_plan.SPT], plan.crowd, bar="<= 500000"),
        _memory("microvm_pss_bytes", results[boot_plan.MICROVM], plan.crowd, bar="<= 20000000"),
        Figure(
            name="web_image_bytes",
            value=images,
            unit="byte",
            samples=1,
            spread=(min(images.values()), max(images.values())),
            bar="spt <= 131072, microvm <= 262144",
            note="without content; read off the files",
        ),
    )


def _median(name: str, case: str, times: Times, reasons: Mapping[str, str], *, bar: str) -> Figure:
    if case not in times:
        return Figure.missing(name, f"{case}: {reasons[case]}", unit="ms", bar=bar)
    return Figure.of_samples(name, times[case], unit="ms", bar=bar)


def _ratio(name: str, above: str, below: str, times: Times, reasons: Mapping[str, str], *, bar: str) -> Figure:
    lacking = [case for case in (above, below) if case not in times]
    if lacking:
        return Figure.missing(name, "; ".join(f"{case}: {reasons[case]}" for case in lacking), bar=bar)
    note = f"median of {above} / median of {below}; spread over the rounds' own ratios"
    return Figure.of_ratio(name, times[above], times[below], bar=bar, note=note)


def _memory(name: str, result: CaseResult, crowd: int, *, bar: str) -> Figure:
    if not result.crowd_pss_bytes:
        return Figure.missing(name, f"not all of {crowd} instances answered", unit="byte", bar=bar)
    note = f"PSS of each of {crowd} instances alive at once"
    return Figure.of_samples(name, result.crowd_pss_bytes, unit="byte", bar=bar, note=note)


def _raw_case(plan: BootPlan, name: str, result: CaseResult) -> dict[str, Any]:
    times = result.elapsed_ms
    summary = {} if not times else {
        "min": min(times), "median": statistics.median(times), "p95": percentile(times, 95),
    }  # fmt: skip
    return summary | {
        "unit": "ms",
        "endpoint": _endpoint(name),
        "samples_ms": times,
        "pss_bytes": statistics.median(result.pss_bytes) if result.pss_bytes else None,
        "crowd_pss_bytes": result.crowd_pss_bytes,
        "crowd_ms": result.crowd_ms,
        "image_bytes": _image_bytes(plan, name),
        "retries": result.retries,
        "failure": result.failure,
        "note": _NOTES[name],
    }


_NOTES = {
    boot_plan.FLOOR: "QEMU with the microvm's command line, memory, devices and seccomp filter; spawn to exit",
    boot_plan.MICROVM: "the driver's own command line",
    boot_plan.SPT: "the same guest source as a sealed process on an inherited tap",
    boot_plan.PROCESS: "static, at a fixed address, listening on the loopback of the client's own namespace",
    boot_plan.CONTAINER: "`runc run --detach` of the same server with runc's default configuration, in the client's "
    "network namespace, without a cgroup; memory is the server's alone",
    boot_plan.LINUX: f"the distribution's cloud kernel and busybox httpd, {linux_vm.MEMORY_BYTES >> 20} MiB, on the "
    "same QEMU command line with ACPI on, told the rate of its time stamp counter; a start silent for "
    f"{boot_worker.LINUX_DEADLINE_S:g} s is tried once more and counted in `retries`",
}


def _endpoint(name: str) -> str:
    address, port = {
        boot_plan.FLOOR: ("no answer", 0),
        boot_plan.MICROVM: ("10.72.0.2", boot_worker.HTTP_PORT),
        boot_plan.SPT: ("10.73.0.2", boot_worker.HTTP_PORT),
        boot_plan.PROCESS: boot_worker.PROCESS_ENDPOINT,
        boot_plan.CONTAINER: boot_worker.CONTAINER_ENDPOINT,
        boot_plan.LINUX: (f"{boot_worker.LINUX_SUBNET}.2", boot_worker.HTTP_PORT),
    }[name]
    return f"{address}:{port}" if port else address


def _image_bytes(plan: BootPlan, name: str) -> int:
    files: dict[str, list[Path]] = {
        boot_plan.FLOOR: [plan.images.floor],
        boot_plan.MICROVM: [plan.images.microvm],
        boot_plan.SPT: [plan.images.spt],
        boot_plan.LINUX: [plan.linux.kernel, plan.linux.initrd] if plan.linux else [],
    }
    server = [plan.server] if plan.server else []
    return sum(file.stat().st_size for file in files.get(name, server))
