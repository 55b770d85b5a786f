"""The controller process: one per cloud, a child of its keeper, root in the cloud's user namespace.

Started as ``python -m wisp.assembly.controller FOLDER``. It may be killed at any moment: what it knows is in the
store or can be seen in the keeper and the kernel.
"""

import asyncio
import logging
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from wisp.agent.local import LocalAgent, found_unstarted
from wisp.assembly.drivers import Hands, make_hands
from wisp.assembly.planning import planning_rng
from wisp.assembly.progress import LISTENER_DESCRIPTOR, ControllerState, ProgressServer
from wisp.assembly.settings import CloudFolder, Settings
from wisp.controller.core import ControllerCore
from wisp.controller.runner import Runner
from wisp.drivers.clock.system import SystemClock
from wisp.drivers.processes import cpu_seconds, process_tree
from wisp.drivers.store.sqlite import SqliteStore
from wisp.model.instance import InstanceSpec, InstanceState, ObservedInstance
from wisp.model.observation import ObservedState

log = logging.getLogger("wisp.controller")
# After so many in a row, two seconds of them at least, `wisp up` waits no longer.
ENOUGH_FAILURES = 6
# Those that an earlier controller did not close are among the newest.
OPERATIONS_LOOKED_AT = 10_000
FAILED = (InstanceState.EXITED, InstanceState.UNHEALTHY)


def main() -> None:
    """Run the controller of the cloud whose folder is the only argument, until it is ended."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    folder = CloudFolder(Path(sys.argv[1]))
    asyncio.run(run(folder, Settings.from_environment()))


async def run(folder: CloudFolder, settings: Settings) -> None:
    """Find what an earlier controller left, then keep the cloud as desired."""
    clock, store = SystemClock(), SqliteStore(folder.database)
    hands = await make_hands(folder, settings)
    operations = store.operations(limit=OPERATIONS_LOOKED_AT)
    before = store.plan()
    core = ControllerCore(
        ObservedState(assignments=store.assignments()),
        rng=planning_rng,
        operations=operations,
        before=before[1] if before else None,
    )
    server = ProgressServer(lambda: state_of(core), lambda: runner.desired_changed())
    runner = Runner(core, store, clock, lambda step: server.tell(step.events))
    agent = LocalAgent(
        drivers=hands.drivers,
        network=hands.network,
        prober=hands.prober,
        lives=hands.children,
        budgets=hands.children,
        pools=hands.pools,
        names=hands.names,
        secrets=hands.secrets_of,
        cpu_seconds=lambda pid: cpu_seconds(process_tree(pid)),
        clock=clock,
        report=runner.put,
    )
    await agent.observe(await found(store, hands))
    runner.desired_changed()
    log.info("controller of %s is at work", folder.name)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve(socket.socket(fileno=LISTENER_DESCRIPTOR)))
        tasks.create_task(agent.watch())
        tasks.create_task(agent.look_around())
        tasks.create_task(agent.keep_warm())
        tasks.create_task(agent.measure_load())
        tasks.create_task(agent.serve_names())
        tasks.create_task(runner.run(agent))


async def found(store: SqliteStore, hands: Hands) -> list[ObservedInstance]:
    """Give what an earlier controller wrote down, mended by what the keeper really has."""
    written = store.instances()
    by_child: Mapping[str, ObservedInstance] = {seen.handle.child: seen for seen in written.values() if seen.handle}
    running = [by_child.get(handle.child) or found_unstarted(handle) for handle in await hands.children.handles()]
    return [*(written | {seen.name: seen for seen in running}).values()]


def state_of(core: ControllerCore) -> ControllerState:
    """Sum up where the controller is."""
    specs: tuple[InstanceSpec, ...] = core.plan.instances if core.plan else ()
    digests = {spec.name: spec.digest for spec in specs}
    ready = sum(seen.state.is_well for seen in core.instances.values())
    return ControllerState(
        revision=core.revision,
        settled=core.is_settled,
        ready=ready,
        wanted=len(specs),
        failing=tuple(
            f"{seen.name}: {seen.reason}"
            for seen in core.instances.values()
            if seen.failures >= ENOUGH_FAILURES and seen.state in FAILED and digests.get(seen.name) == seen.spec_digest
        ),
        network_done=core.has_network,
        faults=core.faults,
    )


if __name__ == "__main__":
    main()
