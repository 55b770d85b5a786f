"""``wisp doctor``: what this machine can do, with the remedy for what it cannot."""

import os
import shutil
import tempfile
from pathlib import Path

from wisp.assembly.drivers import machine_accelerator
from wisp.assembly.settings import Settings
from wisp.drivers.instance.microvm import INSTALL_QEMU, QEMU
from wisp.drivers.keeper.client import KeeperClient
from wisp.drivers.keeper.process import start_keeper
from wisp.model.view import Finding
from wisp.primitives.errors import MissingPrerequisite, WispError

PROGRAMS = (
    # program, what it is for, Debian package, whether a cloud needs it
    ("iptables-legacy-restore", "link delay, jitter and loss", "iptables", True),
    ("nsenter", "`wisp exec` and `wisp shell`", "util-linux", True),
    ("tcpdump", "looking at packets", "tcpdump", False),
    ("runc", "the container peer of `wisp bench boot`", "runc", False),
)
ROOM_WANTED_BYTES = 200 << 20


async def examine(settings: Settings) -> list[Finding]:
    """Look at everything a cloud needs."""
    return [
        await _user_namespaces(settings),
        _tun(),
        *await _unikernels(settings),
        *(_program(settings, *program) for program in PROGRAMS),
        _shaping(),
        _quota(),
        _room(settings),
    ]


async def _user_namespaces(settings: Settings) -> Finding:
    """Start and end a keeper in a folder of its own: the one proof that namespaces work here."""
    subject = "user namespaces"
    if not settings.native.exists():
        return Finding(subject=subject, state="missing", sentence=f"no {settings.native}", remedy="make native")
    with tempfile.TemporaryDirectory(prefix="wisp-doctor-") as name:
        folder = Path(name)
        try:
            await start_keeper(settings.native, folder)
            async with await KeeperClient.connect(folder) as keeper:
                await keeper.shutdown()
        except MissingPrerequisite as error:
            return Finding(subject=subject, state="missing", sentence=str(error), remedy=error.remedy)
        except WispError as error:
            return Finding(subject=subject, state="missing", sentence=str(error), remedy="see the sentence")
    return Finding(subject=subject, state="ok", sentence="clouds live in namespaces of their own, without root")


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
    roles = sorted({path.name.split(".")[0] for path in settings.artifacts.glob("*.elf")})
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


def _shaping() -> Finding:
    sentence = (
        "rate by tbf in the kernel; delay, jitter and loss by Wisp's delay line: round trips within 0.3 ms (median)"
    )
    return Finding(subject="link shaping", state="ok", sentence=sentence)


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
