"""The instance drivers of a real cloud, for tests, by proxy: a process inside the cloud has them.

Joining a cloud cannot be taken back, so they are in a process of their own; see ``driver_worker``.
"""

import asyncio
import contextlib
import pickle
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from tests.integration.network.cloud import BINARY

from wisp.codec.description import parse
from wisp.drivers.keeper.process import kill_keeper, start_keeper
from wisp.model.action import NetworkAction
from wisp.model.description import DesiredState, Kind
from wisp.model.instance import Handle, InstanceSpec
from wisp.model.observation import ObservedState
from wisp.model.plan import Plan
from wisp.planning import plan
from wisp.ports.instance import Capabilities, Exit, Fingerprint
from wisp.primitives import errors
from wisp.primitives.time import Duration, Instant
from wisp.reconcile import reconcile

WORKER = Path(__file__).with_name("driver_worker.py")
CLOUD = """
cloud: drivers
sites: {here: {}}
hosts: {host: {site: here, cpu: 4, memory: 1GiB}}
images:
  web: {role: web}
  foreign: {file: foreign.elf}
  rootfs: {file: rootfs}
vnfds:
  microvm: {vdus: {main: {kind: unikernel/microvm, image: web, cpu: 100m, memory: 32MiB}}}
  spt: {vdus: {main: {kind: unikernel/spt, image: web, cpu: 100m, memory: 8MiB}}}
  image:
    vdus:
      main:
        kind: unikernel/image
        image: foreign
        memory: 32MiB
        config: {name: "${own.name}", ip: "${own.address}/${own.prefix}", gw: "${own.gateway}"}
  vm:
    vdus:
      main:
        kind: vm
        image: foreign
        memory: 32MiB
        config: {name: "${own.name}", ip: "${own.address}/${own.prefix}", gw: "${own.gateway}"}
  container:
    vdus:
      main: {kind: container, image: rootfs, memory: 32MiB, command: [/bin/busybox, httpd, -f, -p, "80", -h, /www]}
  process:
    vdus:
      main:
        kind: process
        command: ["${python}", -m, http.server, -d, /usr/share, "8080"]
        cpu: 100m
        memory: 64MiB
        health: {port: 8080, path: /}
network_services:
  all:
    vnfs:
      microvm: {vnfd: microvm}
      spt: {vnfd: spt}
      image: {vnfd: image}
      vm: {vnfd: vm}
      container: {vnfd: container}
      process: {vnfd: process}
"""


def planned(base: Path = Path("/")) -> tuple[dict[Kind, InstanceSpec], list[NetworkAction]]:
    """Give one spec per kind, and what makes the network they need; foreign files are in ``base``."""
    desired = parse(CLOUD, file="drivers.yaml", base=base)
    assert isinstance(desired, DesiredState), desired
    decided = plan(desired, ObservedState(), rng=Random(0))
    assert isinstance(decided, Plan)
    actions = reconcile(decided, ObservedState(), now=Instant(0))
    network = [action for action in actions if not hasattr(action, "spec")]
    return {spec.kind: spec for spec in decided.instances}, network


class CloudDrivers:
    """The worker, and what can be asked of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.specs, self.network = planned(directory)
        self._turn = threading.Lock()
        command = [sys.executable, WORKER, directory, BINARY]
        self._worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    async def call(self, task: str, *arguments: Any) -> Any:
        """Give what a task of the worker gives."""
        done, value = await asyncio.to_thread(self._exchange, task, arguments)
        if not done:
            name, message = value
            raise getattr(errors, name, RuntimeError)(message)
        return value

    def _exchange(self, task: str, arguments: tuple[Any, ...]) -> Any:
        assert self._worker.stdin and self._worker.stdout
        with self._turn:
            pickle.dump((task, arguments), self._worker.stdin)
            self._worker.stdin.flush()
            return pickle.load(self._worker.stdout)  # noqa: S301 - our own process wrote it

    def log(self, instance: str) -> str:
        return (self.directory / "logs" / f"{instance}.log").read_text()

    def end(self) -> None:
        self._worker.kill()
        self._worker.communicate()


@dataclass(frozen=True)
class RemoteDriver:
    """Implements ``InstanceDriver`` through the worker."""

    drivers: CloudDrivers
    kind: Kind
    can: Capabilities

    def capabilities(self) -> Capabilities:
        return self.can

    async def fingerprint(self) -> Fingerprint:
        return await self.drivers.call("fingerprint", self.kind)

    async def start(self, spec: InstanceSpec, secrets: Mapping[str, str]) -> Handle:
        return await self.drivers.call("start", self.kind, spec, dict(secrets))

    async def recover(self, handle: Handle) -> Exit | None:
        return await self.drivers.call("recover", self.kind, handle)

    async def stop(self, handle: Handle, *, grace: Duration) -> None:
        await self.drivers.call("stop", self.kind, handle, grace)


@dataclass(frozen=True)
class RealWorld:
    """Implements ``InstanceWorld`` for one kind."""

    drivers: CloudDrivers
    kind: Kind

    def spec(self) -> InstanceSpec:
        return self.drivers.specs[self.kind]

    def broken_spec(self) -> InstanceSpec:
        """Give a spec whose program or file is missing, or whose configuration is too long."""
        spec = self.spec()
        if self.kind is Kind.PROCESS:
            return replace(spec, command=("/no/such/program",))
        if spec.image and spec.image.foreign:
            return replace(spec, image=replace(spec.image, foreign=replace(spec.image.foreign, file="/no/such/file")))
        return replace(self.spec(), config=(("words", "x" * 3000),))

    async def kill(self, handle: Handle) -> None:
        await self.drivers.call("kill", handle)

    async def answers(self, spec: InstanceSpec) -> bool:
        return await self.drivers.call("probe", spec) is None


@contextlib.asynccontextmanager
async def cloud_drivers(directory: Path) -> AsyncIterator[CloudDrivers]:
    """Give the drivers of a fresh cloud whose network is made, and end the cloud afterwards."""
    identity = await start_keeper(BINARY, directory)
    try:
        drivers = CloudDrivers(directory)
        try:
            await drivers.call("make_network", drivers.network)
            yield drivers
        finally:
            drivers.end()
    finally:
        await kill_keeper(identity)
