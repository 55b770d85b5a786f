"""Bringing a cloud's keeper and controller to life, and everything of it to its end."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from wisp.assembly.progress import LISTENER_DESCRIPTOR, listen
from wisp.assembly.settings import CloudFolder, Settings
from wisp.drivers.instance.kept import INSTANCE_PREFIX
from wisp.drivers.keeper.client import ChildStatus, KeeperClient, KeeperGone, SpawnOrder
from wisp.drivers.keeper.process import KeeperIdentity, kill_keeper, living_keeper, start_keeper
from wisp.model.zone import NAT_RESOLVER_ADDRESS, RESOLVER_ADDRESS
from wisp.primitives.errors import MissingPrerequisite, PermanentDriverError, StateError, WispError

CONTROLLER = "controller"
LISTENER = "controller/listener"
ANSWER_WITHIN_S = 3.0
PROCESS_GRACE_S = 3.0


def write_resolver(folder: CloudFolder, zone: str, *, outside: bool) -> None:
    """Say where the cloud's processes ask for names, and in which zone they need not say it.

    It is written in place: a running cloud has this very file mounted.

    Args:
        folder: The cloud's.
        zone: The cloud's zone.
        outside: Whether the NAT is to be asked for what the cloud's own server refuses.
    """
    servers = (RESOLVER_ADDRESS, NAT_RESOLVER_ADDRESS) if outside else (RESOLVER_ADDRESS,)
    named = "".join(f"nameserver {address}\n" for address in servers)
    text = f"search {zone}\n{named}options timeout:2 attempts:2\n"
    try:
        folder.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not folder.resolver.exists() or folder.resolver.read_text() != text:
            folder.resolver.write_text(text)
            folder.resolver.chmod(0o644)
    except OSError as error:
        raise StateError(f"{folder.resolver} cannot be written: {error.strerror}; make room there") from error


async def ensure_keeper(folder: CloudFolder, settings: Settings) -> KeeperClient:
    """Connect to the cloud's keeper, started when it does not live.

    Raises:
        MissingPrerequisite: The native program was not built, or the machine forbids user namespaces.
    """
    if not settings.native.exists():
        raise MissingPrerequisite(
            f"{settings.native} is missing", remedy="run `make native`, or install a wheel of Wisp"
        )
    for each in (folder.path.parent, folder.path, folder.logs):
        each.mkdir(parents=True, exist_ok=True, mode=0o700)
    if living_keeper(folder.path) is None:
        # They belong to the instances that ended with the last keeper.
        shutil.rmtree(folder.snapshots, ignore_errors=True)
        await start_keeper(settings.native, folder.path)
    return await KeeperClient.connect(folder.path)


async def ensure_controller(keeper: KeeperClient, folder: CloudFolder) -> None:
    """Start the cloud's controller unless it runs; from then on the keeper starts it again when it ends."""
    if CONTROLLER in {child.id for child in await keeper.children() if child.state == "running"}:
        return
    try:
        await keeper.forget(CONTROLLER)
    except PermanentDriverError:
        return  # the keeper has just started it again
    if LISTENER not in await keeper.held():
        with listen(folder.controller_socket) as listener:
            await keeper.hold({LISTENER: listener.fileno()})
    await keeper.spawn(
        SpawnOrder(
            child_id=CONTROLLER,
            argv=(sys.executable, "-m", "wisp.assembly.controller", str(folder.path)),
            env=_environment(),
            held={LISTENER_DESCRIPTOR: LISTENER},
            log=folder.logs / "controller.log",
            privileged=True,
            restart=True,
        )
    )


async def controller_child(folder: CloudFolder) -> ChildStatus | None:
    """Give the cloud's controller if it runs."""
    if living_keeper(folder.path) is None:
        return None
    with suppress(KeeperGone):
        async with await KeeperClient.connect(folder.path) as keeper:
            rows = [child for child in await keeper.children() if child.id == CONTROLLER]
            return next((child for child in rows if child.state == "running"), None)
    return None


async def end_everything(folder: CloudFolder) -> None:
    """End the cloud's controller, instances and keeper, and remove its folder. May be repeated."""
    if identity := living_keeper(folder.path):
        await _end_keeper(folder, identity)
    # The kernel has let go of every process and namespace of the cloud; what is left are files.
    with suppress(FileNotFoundError):
        shutil.rmtree(folder.path)


@asynccontextmanager
async def nothing_left_of_a_failure(folder: CloudFolder) -> AsyncIterator[None]:
    """When what is done inside fails, take away again what it began: the keeper, and the folder if there was none."""
    was_there, was_alive = folder.path.exists(), living_keeper(folder.path) is not None
    try:
        yield
    except BaseException:
        if not was_alive and (identity := living_keeper(folder.path)):
            await asyncio.shield(_end_keeper(folder, identity))
        if not was_there:
            shutil.rmtree(folder.path, ignore_errors=True)
        raise


async def _end_keeper(folder: CloudFolder, identity: KeeperIdentity) -> None:
    """Shut the keeper down; one that does not answer is killed, which ends its cloud as well."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S + PROCESS_GRACE_S):
            async with await KeeperClient.connect(folder.path) as keeper:
                await _end_children(keeper)
                await keeper.shutdown()
    except (TimeoutError, WispError):
        await kill_keeper(identity)


async def _end_children(keeper: KeeperClient) -> None:
    """End the controller first, then ask processes to end, and give them a little time."""
    with suppress(WispError):
        await keeper.signal(CONTROLLER, 9)
    running = {child.id for child in await keeper.children() if child.state == "running"}
    asked = {child for child in running if child.startswith(f"{INSTANCE_PREFIX}process/")}
    for child in asked:
        with suppress(WispError):
            await keeper.signal(child, 15)
    with suppress(TimeoutError):
        async with asyncio.timeout(PROCESS_GRACE_S):
            await _ended(keeper, asked)


async def _ended(keeper: KeeperClient, children: set[str]) -> None:
    """Return once all of these children have ended."""
    if not children:
        return
    left = set(children)
    async for child in keeper.watch():
        left.discard(child.id)
        if not left:
            return


def _environment() -> dict[str, str]:
    """Give what a controller needs of the caller's environment, and nothing else."""
    wanted = ("HOME", "PATH", "XDG_STATE_HOME", "XDG_CACHE_HOME", "LANG", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    return {name: os.environ[name] for name in wanted if name in os.environ}


def clouds(settings: Settings) -> list[CloudFolder]:
    """Give every cloud that has a folder, by name."""
    if not settings.clouds.is_dir():
        return []
    return [CloudFolder(path) for path in sorted(settings.clouds.iterdir()) if path.is_dir()]
