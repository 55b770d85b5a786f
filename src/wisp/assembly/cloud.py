"""The facade: one cloud, with the same verbs as the command line.

::

    async with wisp.Cloud("cloud.yaml") as cloud:
        for row in await cloud.ps():
            print(row.name, row.address, row.start_ms)
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from wisp.assembly.counters import by_direction, by_router, counted
from wisp.assembly.doors import held_names, opened, shut_unwanted
from wisp.assembly.echo import Directory, echoes, new_identity, way
from wisp.assembly.editing import NetworkEditor
from wisp.assembly.egress import end_egress, ensure_egress, find_program, wants_egress
from wisp.assembly.faults import FaultOrder, store_fault
from wisp.assembly.images import with_built_images, with_digests
from wisp.assembly.inside import capture_inside, forward_until_cancelled, run_inside
from wisp.assembly.lifecycle import (
    controller_child,
    end_everything,
    ensure_controller,
    ensure_keeper,
    nothing_left_of_a_failure,
    write_resolver,
)
from wisp.assembly.planning import decide
from wisp.assembly.progress import follow
from wisp.assembly.secrets import filled_vault, fingerprinted, keep
from wisp.assembly.settings import CloudFolder, Settings
from wisp.assembly.views import changes, host_rows, instance_rows, later
from wisp.assembly.waiting import until_carried_out, until_settled
from wisp.assembly.wish import Wish, as_it_was, earlier_wish, present_wish
from wisp.codec.description import parse
from wisp.drivers.clock.system import SystemClock
from wisp.drivers.instance.microvm import find_qemu
from wisp.drivers.keeper.process import living_keeper
from wisp.drivers.store.sqlite import SqliteStore
from wisp.model.description import DesiredState, Kind
from wisp.model.echo import EchoAnswer, EchoOrder, Hop
from wisp.model.fault import Degradation, Fault
from wisp.model.instance import InstanceSpec
from wisp.model.observation import Event, ObservedState
from wisp.model.operation import Cause, Operation
from wisp.model.plan import Plan
from wisp.model.view import CloudStatus, DirectionCounters, InstanceRow, PlannedChange, Progress, RouterCounters
from wisp.model.zone import zone_of
from wisp.planning.door import doors
from wisp.primitives.errors import DescriptionError, StateError, TransientDriverError, UnknownInstance
from wisp.primitives.time import Duration
from wisp.reconcile import network_of, reconcile

ProgressCallback = Callable[[Progress], None]

CHANGE_WITHIN_S = 120.0


class Cloud:
    """One edge cloud on this machine.

    Args:
        source: Path of its description; not needed for a cloud that is up.
        name: Its name, where there is no description to take it from.
        settings: Where things are; from the environment when not given.

    Raises:
        DescriptionError: The description has problems; all of them are listed.
    """

    def __init__(
        self, source: str | Path | None = None, *, name: str | None = None, settings: Settings | None = None
    ) -> None:
        self._settings = settings or Settings.from_environment()
        self._source = None if source is None else Path(source)
        self._desired: DesiredState | None = None
        self._text = ""
        if self._source is not None:
            self._desired, self._text = read_description(self._source)
        self.name = self._desired.name if self._desired else (name or "")
        if not self.name:
            raise StateError("a cloud needs a description or a name")
        self._folder = self._settings.cloud(self.name)

    async def __aenter__(self) -> "Cloud":
        try:
            await self.up()
        except BaseException:
            # Nobody calls __aexit__ of a cloud that was never entered.
            await self.down()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.down()

    @property
    def folder(self) -> CloudFolder:
        """What the cloud keeps on disk."""
        return self._folder

    async def up(self, progress: ProgressCallback = lambda _: None, *, timeout_s: float = 120.0) -> list[InstanceRow]:
        """Bring the cloud to what its description says; return when everything answers.

        A cloud that is up changes only where it differs. Faults end.

        Raises:
            InfeasibleError: No placement exists; a running cloud stays as it is.
            MissingPrerequisite: Something is not installed; the same.
            StateError: A secret cannot be read, or a port of this machine cannot be opened; the same.
            TransientDriverError: Not everything answers within ``timeout_s``; what failed is in the message.
        """
        if self._desired is None:
            raise StateError(f"cloud {self.name}: `up` needs its description")
        wish = Wish(desired=self._desired, text=self._text)
        return await self._bring(wish, lambda desired: with_built_images(desired, self._settings), progress, timeout_s)

    async def rollback(
        self, progress: ProgressCallback = lambda _: None, *, to: int | None = None, timeout_s: float = 120.0
    ) -> list[InstanceRow]:
        """Bring a cloud that is up back to an earlier revision, images as they were then; return when all answers.

        An operation that is still being carried out ends with that.

        Args:
            progress: Told of each step.
            to: The revision; ``None`` for the newest that asks for something else than the present one.
            timeout_s: Longest wait [s].

        Raises:
            StateError: The cloud is down, or there is no such revision.
            WispError: As :meth:`up`.
        """
        self._need_life()
        wish = earlier_wish(self.name, self._existing_store(), to)
        return await self._bring(wish, as_it_was, progress, timeout_s)

    async def retry(
        self, progress: ProgressCallback = lambda _: None, *, timeout_s: float = 120.0
    ) -> list[InstanceRow]:
        """Try at once again what has failed; return when everything answers.

        Raises:
            StateError: The cloud is down.
            WispError: As :meth:`up`.
        """
        self._need_life()
        return await self._bring(present_wish(self.name, self._existing_store()), as_it_was, progress, timeout_s)

    @property
    def network(self) -> NetworkEditor:
        """Its routers and links, to be changed while it runs."""

        async def bring(wish: Wish) -> object:
            self._need_life()
            return await self._bring(wish, as_it_was, lambda _: None, CHANGE_WITHIN_S)

        return NetworkEditor(self.name, self._existing_store, bring)

    def operations(self, *, limit: int = 1000) -> list[Operation]:
        """Give the newest life cycle operations, oldest first.

        Raises:
            StateError: There is no such cloud.
        """
        store = self._existing_store()
        try:
            return store.operations(limit=limit)
        finally:
            store.close()

    def _need_life(self) -> None:
        if living_keeper(self._folder.path) is None:
            raise StateError(f"cloud {self.name} is down; `wisp up FILE` brings it up")

    async def _bring(
        self, wish: Wish, sealed: Callable[[DesiredState], DesiredState], progress: ProgressCallback, timeout_s: float
    ) -> list[InstanceRow]:
        """Have a wish carried out, with the images that ``sealed`` gives it."""
        progress(Progress(phase="starting the keeper", done=0, total=1))
        if any(instance.vdu.kind is Kind.MICROVM for instance in wish.desired.instances):
            find_qemu(self._settings.search_path)
        nat = find_program(self._settings) if wants_egress(wish.desired) else None
        async with nothing_left_of_a_failure(self._folder):
            await self._order(wish, sealed)
        await self._settle(progress, timeout_s)
        await self._open_the_way_out(nat)
        return await self.ps()

    async def _order(self, wish: Wish, sealed: Callable[[DesiredState], DesiredState]) -> None:
        """Have the controller know what is wanted, once it is sure that it can be had."""
        declared = wish.desired
        vault = await filled_vault(self._folder, declared.secrets)
        wanted = doors(declared)
        write_resolver(self._folder, zone_of(declared.name, declared.dns.zone), outside=wants_egress(declared))
        with opened(wanted, await held_names(self._folder)) as sockets:
            async with await ensure_keeper(self._folder, self._settings) as keeper:
                await ensure_controller(keeper, self._folder)
                desired = sealed(fingerprinted(declared, vault))
                self._check_placement(desired)
                await keeper.hold(sockets)
                await keep(keeper, vault)
                self._store_desired(replace(wish, desired=desired))
                await shut_unwanted(keeper, wanted)

    async def _open_the_way_out(self, nat: str | None) -> None:
        async with await ensure_keeper(self._folder, self._settings) as keeper:
            await (ensure_egress(keeper, self._folder, nat) if nat else end_egress(keeper))

    def _check_placement(self, desired: DesiredState) -> None:
        """Make sure that a plan exists."""
        store = self._store()
        try:
            self._decide(desired, store)
        finally:
            store.close()

    def _store_desired(self, wish: Wish) -> int:
        """Write the desired state down."""
        store = self._store()
        try:
            if wish.cause is Cause.WISH:
                store.remove_faults()
            return store.put_desired(wish.desired, source=wish.text, cause=wish.cause, expected_revision=wish.after)
        finally:
            store.close()

    async def _settle(self, progress: ProgressCallback, timeout_s: float) -> None:
        if not await until_settled(self._folder, self._revision(), progress, timeout_s):
            raise TransientDriverError(await self._what_is_missing(timeout_s))

    async def _what_is_missing(self, timeout_s: float) -> str:
        late = [row for row in await self.ps() if not row.is_well]
        lines = [f"  {row.name}: {row.state}{', ' + row.reason if row.reason else ''}" for row in late]
        return "\n".join([f"cloud {self.name}: not everything answers after {timeout_s:g} s:", *lines])

    async def down(self, progress: ProgressCallback = lambda _: None) -> None:
        """End the cloud and remove everything of it. May be repeated; a cloud that is not there is fine."""
        if not self._folder.path.is_dir():
            return
        progress(Progress(phase="stopping", done=0, total=1))
        if self._folder.database.exists():
            store = self._store()
            store.put_absent()
            store.close()
        await end_everything(self._folder)

    async def plan(self) -> PlannedChange:
        """Say what :meth:`up` would change, and why everything goes where it goes.

        Raises:
            InfeasibleError: No placement exists.
            StateError: A secret cannot be read.
        """
        if self._desired is None:
            raise StateError(f"cloud {self.name}: `plan` needs its description")
        vault = await filled_vault(self._folder, self._desired.secrets)
        desired = with_digests(fingerprinted(self._desired, vault), self._settings)
        if not self._folder.database.exists():
            plan = decide(desired, ObservedState())
            actions = reconcile(plan, ObservedState(), now=SystemClock().now())
            return PlannedChange(changes=changes(actions), decisions=plan.decisions)
        store = self._store()
        try:
            return self._difference(desired, store)
        finally:
            store.close()

    def _difference(self, desired: DesiredState, store: SqliteStore) -> PlannedChange:
        alive = living_keeper(self._folder.path) is not None
        before, now = store.plan() if alive else None, SystemClock().now()
        observed = ObservedState(assignments=store.assignments(), instances=store.instances() if alive else {})
        if before is not None:
            observed = replace(observed, network=before[1].network)
            observed = replace(observed, network=network_of(before[1], observed, now=now))
        plan = decide(desired, observed)
        actions = (*reconcile(plan, observed, now=now), *later(plan, observed))
        return PlannedChange(changes=changes(actions), decisions=plan.decisions)

    async def ps(self) -> list[InstanceRow]:
        """Give every instance and device workload as it is now.

        Raises:
            StateError: There is no such cloud.
        """
        store = self._existing_store()
        try:
            desired, plan = store.desired(), store.plan()
            if desired is None or plan is None:
                return []
            alive = living_keeper(self._folder.path) is not None
            return instance_rows(desired[1], plan[1], store.instances(), alive=alive)
        finally:
            store.close()

    async def status(self) -> CloudStatus:
        """Sum the cloud up.

        Raises:
            StateError: There is no such cloud.
        """
        rows = await self.ps()
        store = self._existing_store()
        try:
            desired, plan = store.desired(), store.plan()
        finally:
            store.close()
        keeper = living_keeper(self._folder.path)
        controller = await controller_child(self._folder)
        ready = sum(row.is_well for row in rows)
        state, sentence = _verdict(self.name, keeper is not None, controller is not None, ready, len(rows))
        return CloudStatus(
            name=self.name,
            state=state,
            sentence=sentence,
            revision=desired[0] if desired else 0,
            ready=ready,
            wanted=len(rows),
            keeper_pid=keeper.pid if keeper else None,
            controller_pid=controller.pid if controller else None,
            hosts=host_rows(desired[1], plan[1]) if desired and plan else (),
        )

    def faults(self) -> list[Fault]:
        """Give what is broken on purpose.

        Raises:
            StateError: There is no such cloud.
        """
        store = self._existing_store()
        try:
            return list(store.faults())
        finally:
            store.close()

    async def fault(
        self,
        kind: str,
        name: str,
        action: str,
        *,
        period_s: float | None = None,
        degradation: Degradation | None = None,
        timeout_s: float = 30.0,
    ) -> list[Fault]:
        """Break something, or mend it, and return once the network shows it; give what is broken then.

        Args:
            kind: ``link``, ``host``, ``site`` or ``process``.
            name: Its name; a device's for its access link, where no link is called so.
            action: ``down``, ``flap``, ``degrade``, or ``up``, which ends whatever fault it has.
            period_s: For one that flaps: how long it is down, and then up [s].
            degradation: What a link that degrades does from then on.
            timeout_s: Longest wait [s].

        Raises:
            StateError: There is no such thing to break, the action does not fit it, or the cloud is down.
            TransientDriverError: The network does not show it within ``timeout_s``.
        """
        self._need_life()
        store = self._existing_store()
        try:
            order = FaultOrder(kind=kind, name=name, action=action, period_s=period_s, degradation=degradation)
            store_fault(store, order, now=SystemClock().now())
            faults = store.faults()
        finally:
            store.close()
        if not await until_carried_out(self._folder, faults, timeout_s):
            raise TransientDriverError(
                f"cloud {self.name}: {kind} {name} is not {action} after {timeout_s:g} s; `wisp events` tells why"
            )
        return list(faults)

    def events(self, *, after: int = 0, limit: int = 1000) -> list[tuple[int, Event]]:
        """Give what happened, oldest first, with numbers to go on from."""
        store = self._existing_store()
        try:
            return store.events(after=after, limit=limit)
        finally:
            store.close()

    def logs(self, instance: str) -> str:
        """Give what an instance (or ``controller``) wrote.

        Raises:
            UnknownInstance: Nothing of that name ever wrote.
        """
        path = self._folder.logs / f"{instance}.log"
        if path.parent != self._folder.logs or not path.exists():
            known = ", ".join(sorted(p.stem for p in self._folder.logs.glob("*.log"))) or "none"
            raise UnknownInstance(f"no logs of {instance!r} in cloud {self.name}; there are logs of: {known}")
        older = path.with_name(path.name + ".1")
        return (older.read_text(errors="replace") if older.exists() else "") + path.read_text(errors="replace")

    async def follow_events(self) -> AsyncIterator[Event]:
        """Give events as they happen, until the controller ends."""
        async for state in follow(self._folder.controller_socket, poke=False):
            for event in state.events:
                yield event

    async def exec(self, where: str, argv: Sequence[str]) -> int:
        """Run a command inside a host, a device or a process instance; give its exit status.

        The command is root inside the cloud, shares this process's terminal, and ends with the cloud.

        Raises:
            StateError: There is no such place, or the cloud is down.
        """
        return await run_inside(self._folder, self._namespace(where), argv)

    async def run(self, where: str, argv: Sequence[str]) -> tuple[int, str]:
        """Run a command inside a host, a device or a process instance; give its exit status and all it wrote.

        Raises:
            StateError: There is no such place, or the cloud is down.
        """
        return await capture_inside(self._folder, self._namespace(where), argv)

    async def ping(
        self,
        begin: str,
        end: str,
        *,
        count: int = 5,
        interval_s: float = 0.2,
        patience_s: float = 2.0,
        ipv6: bool = False,
    ) -> AsyncIterator[EchoAnswer]:
        """Send echo requests from one place to another; give what comes of each, as soon as it is known.

        Args:
            begin: A host, router, device or instance; a unikernel's requests come from its host.
            end: One of these, what several stand in for, or an address.
            count: How many.
            interval_s: From one to the next [s].
            patience_s: How long one is waited for [s].
            ipv6: Whether to ask for the IPv6 address of a name.

        Raises:
            StateError: There is no such place, or the cloud is down.
        """
        directory = Directory(self._stored_plan())
        order = EchoOrder(
            address=directory.address(end, ipv6=ipv6),
            identity=new_identity(),
            count=count,
            interval=Duration.of_seconds(interval_s),
            patience=Duration.of_seconds(patience_s),
        )
        async for answer in echoes(self._folder, directory.namespace(begin), order):
            yield replace(answer, by=directory.name(answer.by))

    async def trace(self, begin: str, end: str, *, patience_s: float = 1.0, ipv6: bool = False) -> Sequence[Hop]:
        """Give the stations on the way from one place to another, with the delay to each.

        Args:
            begin, end, ipv6: As in :meth:`ping`.
            patience_s: How long to wait for those that do not answer [s].

        Raises:
            StateError: There is no such place, or the cloud is down.
        """
        directory = Directory(self._stored_plan())
        address = directory.address(end, ipv6=ipv6)
        return await way(self._folder, directory, begin, address, Duration.of_seconds(patience_s))

    async def link_counters(self) -> list[DirectionCounters]:
        """Give what went over every link, in each direction.

        Raises:
            StateError: The cloud is down.
        """
        network = self._stored_plan().network
        links = [link for link in network.links if not link.is_down]
        names = {end.namespace for link in links for end in (link.a, link.b)}
        return list(by_direction(links, await counted(self._folder, names))) if names else []

    async def router_counters(self) -> list[RouterCounters]:
        """Give what went into and out of every router.

        Raises:
            StateError: The cloud is down.
        """
        return list(by_router([each.name for each in self.network.routers()], await self.link_counters()))

    async def forward(
        self, listen: str, instance: str, port: int, ready: Callable[[str], None] = lambda _: None
    ) -> None:
        """Lead a port of this machine to a port of an instance until cancelled.

        Args:
            listen: ``PORT`` or ``ADDRESS:PORT`` here; port 0 takes a free one.
            instance: Name of the instance.
            port: Its port.
            ready: Told ``ADDRESS:PORT`` once connections are taken.

        Raises:
            StateError: The port is in use, or there is no such instance.
        """
        spec = self._spec(instance)
        if spec.address is None:
            raise UnknownInstance(f"{instance} has no address; it is what a device runs")
        await forward_until_cancelled(
            self._folder, self._settings.native, listen, (spec.namespace, spec.address, port), ready
        )

    def _namespace(self, where: str) -> str:
        """Give the namespace that a host, device or instance name means."""
        return Directory(self._stored_plan()).namespace(where)

    def _spec(self, instance: str) -> InstanceSpec:
        specs = {spec.name: spec for spec in self._stored_plan().instances}
        if instance not in specs:
            raise UnknownInstance(f"no instance {instance!r}; there are: {', '.join(sorted(specs))}")
        return specs[instance]

    def _stored_plan(self) -> Plan:
        store = self._existing_store()
        try:
            newest = store.plan()
        finally:
            store.close()
        if newest is None:
            raise StateError(f"cloud {self.name} has no plan yet; run `wisp up FILE`")
        return newest[1]

    def _decide(self, desired: DesiredState, store: SqliteStore) -> Plan:
        return decide(desired, ObservedState(assignments=store.assignments()))

    def _revision(self) -> int:
        store = self._store()
        try:
            newest = store.desired()
            return newest[0] if newest else 0
        finally:
            store.close()

    def _store(self) -> SqliteStore:
        return SqliteStore(self._folder.database)

    def _existing_store(self) -> SqliteStore:
        if not self._folder.database.exists():
            raise StateError(f"there is no cloud {self.name!r} here; `wisp status` lists those that are")
        return self._store()


def read_description(path: Path) -> tuple[DesiredState, str]:
    """Give a description and its text.

    Raises:
        DescriptionError: It has problems.
        StateError: The file cannot be read.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise StateError(f"cannot read {path}: {error}; give the path of a description") from error
    parsed = parse(text, file=str(path), base=path.resolve().parent)
    if isinstance(parsed, DesiredState):
        return parsed, text
    raise DescriptionError(parsed)


def _verdict(name: str, keeper: bool, controller: bool, ready: int, wanted: int) -> tuple[str, str]:
    if not keeper:
        return "down", f"nothing of {name} runs; `wisp up FILE` starts it again, `wisp down {name}` removes it"
    if not controller:
        return "degraded", f"{name} runs without its controller; `wisp up FILE` starts one"
    if ready < wanted:
        return "changing", f"{ready} of {wanted} instances answer; `wisp events {name}` tells what happens"
    return "up", f"all {wanted} instances answer"
