"""The boot benchmark's own world: run as the first process of new user, network, mount and process namespaces.

Whatever happens to it, the kernel ends everything it started and nothing is left behind. It reads a
:class:`~wisp.bench.boot_plan.BootPlan` from standard input and writes :class:`~wisp.bench.boot_plan.Message` lines.
"""

import ctypes
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import NoReturn

import msgspec

from wisp.bench import boot_plan, container, linux_vm
from wisp.bench.boot_plan import BootPlan, CaseResult, Message
from wisp.bench.launch import Launch, Silent, Started, Timed, timed
from wisp.bench.tap import PREFIX_LENGTH, Tap, ip, open_tap
from wisp.drivers.instance import microvm, spt
from wisp.model.description import HealthCheck, Kind
from wisp.model.instance import InstanceSpec
from wisp.primitives.time import Duration

PROCESS_ENDPOINT = ("127.0.0.1", 8001)
CONTAINER_ENDPOINT = ("127.0.0.1", 8002)
LINUX_SUBNET = "10.71.3"
LINUX_DEADLINE_S = 10.0
HTTP_PORT = 80
PR_SET_THP_DISABLE = 41

Case = Callable[[], AbstractContextManager[Launch]]
CrowdCase = Callable[[int], AbstractContextManager[Launch]]


class Cases:
    """Makes launches out of a plan; each has a tap of its own where its kind wants one."""

    def __init__(self, plan: BootPlan) -> None:
        self._plan = plan
        self._log = plan.folder / "console.log"
        self._hypervisor = microvm.Hypervisor(program=plan.qemu, accelerator=plan.accelerator)

    def available(self) -> dict[str, Case]:
        """Give the cases whose peers are here, by name."""
        found: dict[str, Case] = {
            boot_plan.FLOOR: self.floor,
            boot_plan.MICROVM: self.microvm,
            boot_plan.SPT: self.spt,
        }
        if self._plan.server is not None:
            found[boot_plan.PROCESS] = self.process
        if self._plan.container is not None:
            found[boot_plan.CONTAINER] = self.container
        if self._plan.linux is not None:
            found[boot_plan.LINUX] = self.linux
        return found

    @contextmanager
    def floor(self) -> Iterator[Launch]:
        """The microvm's own command line around a guest that leaves at its first instruction."""
        with open_tap("floor", "10.71.1") as tap:
            yield self._vm(tap, self._plan.images.floor, endpoint=None)

    @contextmanager
    def microvm(self, index: int = 0) -> Iterator[Launch]:
        """The ``web`` guest in a virtual machine."""
        with open_tap(f"vm{index}", f"10.72.{index}") as tap:
            yield self._vm(tap, self._plan.images.microvm, endpoint=(tap.guest, HTTP_PORT))

    def _vm(self, tap: Tap, image: Path, *, endpoint: tuple[str, int] | None) -> Launch:
        spec = _spec(Kind.MICROVM, tap, self._plan.memory_bytes)
        argv = microvm.command(spec, image, self._hypervisor).argv
        return Launch(argv=argv, endpoint=endpoint, log=self._log, descriptors={microvm.TAP_DESCRIPTOR: tap.descriptor})

    @contextmanager
    def spt(self, index: int = 0) -> Iterator[Launch]:
        """The same ``web`` guest as a sealed process."""
        with open_tap(f"spt{index}", f"10.73.{index}") as tap:
            argv = spt.command(_spec(Kind.SPT, tap, self._plan.memory_bytes), self._plan.images.spt).argv
            yield Launch(
                argv=argv,
                endpoint=(tap.guest, HTTP_PORT),
                log=self._log,
                descriptors={spt.TAP_DESCRIPTOR: tap.descriptor},
            )

    @contextmanager
    def process(self, index: int = 0) -> Iterator[Launch]:
        """The plain static server."""
        address, port = PROCESS_ENDPOINT[0], PROCESS_ENDPOINT[1] + 100 * index
        argv = (str(self._plan.server), f"{address}:{port}")
        yield Launch(argv=argv, endpoint=(address, port), log=self._log)

    @contextmanager
    def container(self) -> Iterator[Launch]:
        """The same static server in a container."""
        peer = self._plan.container
        if peer is None:
            raise ValueError("the plan has no container")
        state, pid_file = self._plan.folder / "runc", self._plan.folder / "container.pid"
        delete = container.delete_command(peer.runc, state, "bench")
        yield Launch(
            argv=container.run_command(peer.runc, state, peer.bundle, "bench", pid_file),
            endpoint=CONTAINER_ENDPOINT,
            log=self._log,
            pid_file=pid_file,
            cleanup=lambda: _delete_container(delete),
        )

    @contextmanager
    def linux(self) -> Iterator[Launch]:
        """The minimal Linux VM: the microvm's command line, with ACPI, without which Debian's kernel sees no device."""
        peer = self._plan.linux
        if peer is None:
            raise ValueError("the plan has no Linux VM")
        with open_tap("linux", LINUX_SUBNET) as tap:
            machine = microvm.machine_arguments(self._hypervisor, memory_bytes=linux_vm.MEMORY_BYTES)
            boot = ("-kernel", str(peer.kernel), "-initrd", str(peer.initrd), "-append", linux_vm.command_line())
            network = microvm.network_arguments(tap_descriptor=microvm.TAP_DESCRIPTOR, mac=tap.mac)
            yield Launch(
                argv=(*(part.replace("acpi=off", "acpi=on") for part in machine), *boot, *network),
                endpoint=(tap.guest, HTTP_PORT),
                log=self._log,
                descriptors={microvm.TAP_DESCRIPTOR: tap.descriptor},
                deadline_s=LINUX_DEADLINE_S,
            )


def _spec(kind: Kind, tap: Tap, memory_bytes: int) -> InstanceSpec:
    return InstanceSpec(
        name="web",
        kind=kind,
        host="bench",
        namespace="",
        cpu_millicores=1000,
        memory_bytes=memory_bytes,
        address=tap.guest,
        prefix_length=PREFIX_LENGTH,
        gateway=tap.gateway,
        mac=tap.mac,
        health=HealthCheck(),
        boot_deadline=Duration.of_seconds(5),
    )


def _delete_container(argv: tuple[str, ...]) -> None:
    subprocess.run(argv, check=True, timeout=20, capture_output=True)
    # runc has gone, so its container was a child of ours: the first process of this namespace.
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


class Rounds:
    """Runs every case once per round, in an order of its own each time, and keeps what came of it."""

    def __init__(self, cases: Mapping[str, Case], *, rng: Random) -> None:
        self._cases, self._rng = cases, rng
        self.results = {name: CaseResult() for name in cases}

    def run(self, *, measured: bool) -> None:
        """Run one round; a case that failed twice in a row is left out from then on."""
        names = [name for name in self._cases if not self.results[name].failure]
        for name in self._rng.sample(names, len(names)):
            result = self.results[name]
            outcome = self._once(name, result)
            if outcome is not None and measured:
                result.elapsed_ms.append(outcome.elapsed_ms)
                if outcome.pss_bytes is not None:
                    result.pss_bytes.append(outcome.pss_bytes)

    def _once(self, name: str, result: CaseResult) -> Timed | None:
        try:
            return self._timed(name)
        except Silent:
            result.retries += 1
        try:
            return self._timed(name)
        except Silent as silence:
            result.failure = f"silent twice in a row: {silence}"
            return None

    def _timed(self, name: str) -> Timed:
        gc.collect()
        with self._cases[name]() as launch:
            return timed(launch)


def start_crowd(case: CrowdCase, count: int) -> tuple[float, list[int]]:
    """Start ``count`` instances at once.

    Returns:
        From the first spawn until all have answered [ms], and the memory of each while all are alive [byte].

    Raises:
        Silent: One of them did not answer.
    """
    with ExitStack() as stack:
        launches = [stack.enter_context(case(index)) for index in range(count)]
        servers = [stack.enter_context(Started(launch)) for launch in launches]
        answered_ns = max(server.answered_ns() for server in servers)
        return (answered_ns - servers[0].started_ns) / 1e6, [server.pss_bytes() for server in servers]


def measure(plan: BootPlan, tell: Callable[[Message], None]) -> dict[str, CaseResult]:
    """Carry out the plan, telling progress on the way."""
    cases = Cases(plan)
    rounds = Rounds(cases.available(), rng=Random(1))  # noqa: S311 - the order of cases is no secret
    for number in range(plan.runs + 1):
        tell(Message(phase="starts, interleaved", done=number, total=plan.runs + 1))
        rounds.run(measured=number > 0)
    crowds = {boot_plan.MICROVM: cases.microvm, boot_plan.SPT: cases.spt}
    for number, (name, case) in enumerate(crowds.items()):
        tell(Message(phase=f"memory at {plan.crowd} instances", done=number, total=len(crowds)))
        _add_crowd(rounds.results[name], case, plan.crowd)
    return rounds.results


def _add_crowd(result: CaseResult, case: CrowdCase, count: int) -> None:
    try:
        result.crowd_ms, result.crowd_pss_bytes = start_crowd(case, count)
    except Silent:
        result.retries += 1
        with suppress(Silent):
            result.crowd_ms, result.crowd_pss_bytes = start_crowd(case, count)


def use_small_pages() -> None:
    """Start every case, floor and peers too, without transparent huge pages, as Wisp starts its guests."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_THP_DISABLE) failed")


def main() -> NoReturn:
    """Read the plan, measure, and write the results as the last line."""
    plan = boot_plan.decode_plan(sys.stdin.buffer.read())
    use_small_pages()
    ip("link", "set", "lo", "up")

    def tell(message: Message) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
        sys.stdout.buffer.flush()

    tell(Message(results=measure(plan, tell)))
    sys.exit(0)


if __name__ == "__main__":
    main()
