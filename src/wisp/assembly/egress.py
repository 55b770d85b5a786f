"""The NAT through which a cloud reaches the outside: ``slirp4netns``, a program of the ordinary user.

It stands outside, where the machine's network is, with one tap in the cloud's egress namespace. It lives as long as
the other end of its pipe, which the keeper holds: when the keeper ends, for whatever reason, so does the NAT.
"""

import asyncio
import os
import select
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from wisp.assembly.settings import CloudFolder, Settings
from wisp.drivers.keeper.client import KeeperClient
from wisp.model.description import DesiredState
from wisp.planning.egress import EGRESS
from wisp.primitives.errors import MissingPrerequisite, TransientDriverError

PROGRAM = "slirp4netns"
REMEDY = "sudo apt-get install -y --no-install-recommends slirp4netns"
PIPE_PREFIX = "egress/"
READY_WITHIN_S = 5.0
INTERFACE = "outside"


def wants_egress(desired: DesiredState) -> bool:
    """Whether anybody may reach the outside."""
    return any(instance.egress for instance in desired.instances)


def find_program(settings: Settings) -> str:
    """Give the NAT's path.

    Raises:
        MissingPrerequisite: It is not installed.
    """
    program = shutil.which(PROGRAM, path=settings.search_path)
    if program is None:
        raise MissingPrerequisite(f"no {PROGRAM} on this machine, which `egress: true` needs", remedy=REMEDY)
    return program


async def ensure_egress(keeper: KeeperClient, folder: CloudFolder, program: str) -> None:
    """Start the NAT of a cloud whose network is made, unless it runs.

    Raises:
        TransientDriverError: It does not come up; its log says why.
    """
    with ExitStack() as stack:
        (netns,) = await keeper.fetch([f"netns/{EGRESS}"])
        stack.callback(os.close, netns)
        pipe = f"{PIPE_PREFIX}{os.fstat(netns).st_ino}"
        if await _runs(keeper, pipe):
            return
        await end_egress(keeper)
        namespaces = await keeper.namespaces()
        stack.callback(namespaces.close)
        theirs, ours = os.pipe()
        stack.callback(os.close, theirs)
        stack.callback(os.close, ours)
        await asyncio.to_thread(_start, program, (namespaces.user, netns, theirs), folder.logs / "egress.log")
        await keeper.hold({pipe: ours})


async def end_egress(keeper: KeeperClient) -> None:
    """Let the NAT end, if there is one."""
    await keeper.release([name for name in await keeper.held() if name.startswith(PIPE_PREFIX)])


async def _runs(keeper: KeeperClient, pipe: str) -> bool:
    """Whether the NAT of this namespace still has its end of the pipe."""
    if pipe not in await keeper.held():
        return False
    (ours,) = await keeper.fetch([pipe])
    try:
        poll = select.poll()
        poll.register(ours, 0)
        return not poll.poll(0)
    finally:
        os.close(ours)


def _start(program: str, descriptors: Sequence[int], log: Path) -> None:
    """Start the NAT in a session of its own and return once it forwards."""
    user, netns, alive = descriptors
    ready, told = os.pipe()
    command = (
        "setsid", "--fork", program, "--configure", "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp",
        "--netns-type=path", f"--userns-path=/proc/self/fd/{user}", f"--exit-fd={alive}", f"--ready-fd={told}",
        f"/proc/self/fd/{netns}", INTERFACE,
    )  # fmt: skip
    try:
        with log.open("ab") as output:
            subprocess.run(
                command, pass_fds=(*descriptors, told), cwd="/", check=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
    finally:
        os.close(told)
    try:
        if not select.select([ready], [], [], READY_WITHIN_S)[0] or not os.read(ready, 1):
            raise TransientDriverError(f"{PROGRAM} does not come up, so nobody can reach the outside; see {log}")
    finally:
        os.close(ready)
