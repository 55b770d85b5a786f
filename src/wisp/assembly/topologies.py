"""Networks that somebody else drew, as descriptions."""

import re
from pathlib import Path
from typing import Any

from wisp.codec.topology import Imported, from_gml
from wisp.codec.written import render
from wisp.primitives.errors import DescriptionError, StateError


def import_topology(file: Path, *, name: str) -> dict[str, Any]:
    """Give the description of a GML file's network, with how much of it there is and what was left out or made up.

    Args:
        file: The file.
        name: What to call the cloud; from the file's name when empty.

    Raises:
        DescriptionError: The file has problems; all of them are listed.
        StateError: It cannot be read.
    """
    try:
        # A few of the Topology Zoo's files are older than UTF-8; their names matter little.
        text = file.read_text(errors="replace")
    except OSError as error:
        raise StateError(f"cannot read {file}: {error}; give the path of a GML file") from error
    found = from_gml(text, file=str(file), name=name or _plain(file.stem))
    if not isinstance(found, Imported):
        raise DescriptionError(found)
    return {
        "name": found.desired.name,
        "routers": len(found.desired.routers),
        "links": len(found.desired.links),
        "notes": list(found.notes),
        "description": render(found.desired),
    }


def _plain(stem: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40] or "topology"
