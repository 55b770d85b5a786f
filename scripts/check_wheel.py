"""``check_wheel.py WHEEL``: fails unless it holds what its users need, with true digests, and no litter."""

import hashlib
import re
import sys
from zipfile import ZipFile

ARTIFACTS = "wisp/_artifacts/"
IMAGES = ("web.microvm.elf", "web.spt.elf", "proxy.microvm.elf", "proxy.spt.elf", "aggregator.microvm.elf", "aggregator.spt.elf", "floor.microvm.elf")
NEEDED = (
    *(f"{ARTIFACTS}{name}" for name in (*IMAGES, "wisp-native", "SHA256SUMS")),
    *(f"wisp/_examples/{name}/cloud.yaml" for name in ("hello", "three-hosts", "fog", "proxy")),
    "wisp/py.typed",
)
LITTER = re.compile(r"__pycache__|\.pyc$|\.partial$|(^|/)\.")


def problems(wheel: ZipFile) -> list[str]:
    """Give what is wrong with a wheel, a sentence each."""
    names = set(wheel.namelist())
    found = [f"{name} is missing" for name in NEEDED if name not in names]
    found += [f"{name} does not belong there" for name in sorted(names) if LITTER.search(name)]
    if f"{ARTIFACTS}SHA256SUMS" in names:
        for line in wheel.read(f"{ARTIFACTS}SHA256SUMS").decode().splitlines():
            digest, name = line.split()
            if f"{ARTIFACTS}{name}" not in names or hashlib.sha256(wheel.read(ARTIFACTS + name)).hexdigest() != digest:
                found.append(f"{name} is not what SHA256SUMS says")
    return found


if __name__ == "__main__":
    with ZipFile(sys.argv[1]) as opened:
        told = problems(opened)
    print("\n".join(f"{sys.argv[1]}: {each}" for each in told) or f"{sys.argv[1]}: all there")
    sys.exit(1 if told else 0)
