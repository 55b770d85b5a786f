"""``wisp doctor``: what this machine can do, with the remedy for what it cannot."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from wisp.assembly.drivers import machine_accelerator
from wisp.assembly.settings import Settings
from wisp.drivers.instance.microvm import INSTALL_QEMU, QEMU
from wisp.drivers.keeper.client import KeeperClient, SpawnOrder
from wisp.drivers.keeper.process import start_keeper
from wisp.drivers.network.shaping import shaping
from wisp.model.view import Finding
from wisp.primitives.errors import MissingPrerequisite, WispError

PROGRAMS = (
    # program, what it is for, Debian package, whether a cloud needs it
    ("nsenter", "`wisp exec` and `wisp shell`", "util-linux", True),
    ("slirp4netns", "`egress: true`", "slirp4netns", False),
    ("tcpdump", "looking at packets", "tcpdump", False),
    ("runc", "the container peer of `wisp bench boot`", "runc", False),
)
ROOM_WANTED_BYTES = 200 << 20
# Images that prove something, and serve nobody.
OWN_ROLES = {"floor", "probe"}


async def examine(settings: Settings) -> list[Finding]:
    """Look at everything a cloud needs."""
    return [
        *await _namespaces(settings),
        _tun(),
        *await _unikernels(settings),
        *(_program(settings, *program) for program in PROGRAMS),
        _quota(),
        _room(settings),
    ]


async def _namespaces(settings: Settings) -> list[Finding]:
    """Start a keeper in a folder of its own and delay a link in it: the one proof that both work here."""
    subject = "user namespaces"
    if not settings.native.exists():
        return [Finding(subject=subject, state="missing", sentence=f"no {settings.native}", remedy="make native")]
    with tempfile.TemporaryDirectory(prefix="wisp-doctor-") as name:
        folder = Path(name)
        try:
            await start_keeper(settings.native, folder)
        except MissingPrerequisite as error:
            return [Finding(subject=subject, state="missing", sentence=str(error), remedy=error.remedy)]
        except WispError as error:
            return [Finding(subject=subject, state="missing", sentence=str(error), remedy="see the sentence")]
        async with await KeeperClient.connect(folder) as keeper:
            links = await _links(keeper, folder)
            await keeper.shutdown()
    return [Finding(subject=subject, state="ok", sentence="clouds live in their own, without root"), links]


async def _links(keeper: KeeperClient, folder: Path) -> Finding:
    """Have the keeper run the probe of link shaping."""
    argv = (sys.executable, "-m", "wisp.drivers.network.probe")
    order = SpawnOrder(child_id="probe", argv=argv, env=dict(os.environ), log=folder / "probe.log", privileged=True)
    await keeper.spawn(order)
    ended = await anext(aiter(keeper.watch()))
    if ended.exit_code == 0:
        return Finding(subject="link shaping", state="ok", sentence=shaping())
    said = (folder / "probe.log").read_text().strip()
    remedy = "sudo modprobe -a ip_tables iptable_mangle xt_NFQUEUE nfnetlink_queue"
    return Finding(subject="link shaping", state="limited", sentence=f"links cannot delay: {said}", remedy=remedy)


def _tun() -> Finding:
    if os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return Finding(subject="taps", state="ok", sentence="/dev/net/tun can be opened")
    return Finding(
        subject="taps",
        state="missing",
        sentence="/dev/net/tun is missing or forbidden: unikernels have no network",
        remedy="sudo modprobe tun && sudo chmod 0666 /dev/net/tun",
    )


async def _unikernels(settings: Settings) -> list[Finding]:
    if shutil.which(QEMU, path=settings.search_path) is None:
        return [Finding(subject="qemu", state="missing", sentence=f"no {QEMU}", remedy=INSTALL_QEMU)]
    found = await machine_accelerator(settings)
    state = "ok" if found.name == "kvm" else "limited"
    roles = sorted({path.name.split(".")[0] for path in settings.artifacts.glob("*.elf")} - OWN_ROLES)
    images = Finding(subject="guest images", state="ok", sentence=f"roles: {', '.join(roles)}")
    if not roles:
        images = Finding(subject="guest images", state="missing", sentence="none were built", remedy="make guest")
    return [Finding(subject="microvm accelerator", state=state, sentence=found.sentence), images]


def _program(settings: Settings, program: str, purpose: str, package: str, needed: bool) -> Finding:
    found = shutil.which(program, path=settings.search_path)
    if found:
        return Finding(subject=program, state="ok", sentence=f"{found}, for {purpose}")
    state = "missing" if needed else "limited"
    remedy = f"sudo apt-get install -y --no-install-recommends {package}"
    return Finding(subject=program, state=state, sentence=f"not here; it is for {purpose}", remedy=remedy)


def _quota() -> Finding:
    """Say whether cpu and memory quotas can be enforced: only where a cgroup is delegated to us."""
    own = Path("/sys/fs/cgroup/cgroup.controllers")
    delegated = own.exists() and os.access(own.parent, os.W_OK)
    why = "no cgroup is used" if delegated else "no cgroup is delegated to us"
    sentence = f"{why}: cpu is accounted, not enforced (enforced: false); a guest's memory is its machine's"
    return Finding(subject="quotas", state="limited", sentence=sentence)


def _room(settings: Settings) -> Finding:
    place = settings.state if settings.state.exists() else Path.home()
    free = shutil.disk_usage(place).free
    if free >= ROOM_WANTED_BYTES:
        return Finding(subject="disk", state="ok", sentence=f"{free >> 20} MiB free for clouds")
    return Finding(
        subject="disk",
        state="limited",
        sentence=f"only {free >> 20} MiB free at {place}",
        remedy=f"free some space, or set XDG_STATE_HOME elsewhere ({ROOM_WANTED_BYTES >> 20} MiB are enough)",
    )
