"""Archives and OCI images for tests, made in memory."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One member of an archive."""

    name: str
    content: bytes = b""
    form: bytes = tarfile.REGTYPE
    target: str = ""
    mode: int = 0o644


def folder(name: str, mode: int = 0o755) -> Entry:
    return Entry(name, form=tarfile.DIRTYPE, mode=mode)


def symlink(name: str, target: str) -> Entry:
    return Entry(name, form=tarfile.SYMTYPE, target=target)


def hard_link(name: str, target: str) -> Entry:
    return Entry(name, form=tarfile.LNKTYPE, target=target)


def archive(entries: Iterable[Entry]) -> bytes:
    """Give a tar archive."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as opened:
        for entry in entries:
            member = tarfile.TarInfo(entry.name)
            member.type, member.mode, member.linkname = entry.form, entry.mode, entry.target
            member.size = len(entry.content)
            opened.addfile(member, io.BytesIO(entry.content))
    return written.getvalue()


@dataclass
class Layout:
    """An OCI image layout."""

    layers: Sequence[bytes]
    run: Mapping[str, Any] = field(default_factory=dict)
    platform: Mapping[str, str] | None = None
    media_type: str = "application/vnd.oci.image.layer.v1.tar+gzip"

    def files(self) -> dict[str, bytes]:
        """Give its files by name."""
        blobs: dict[str, bytes] = {}

        def blob(content: bytes, media_type: str) -> dict[str, Any]:
            digest = hashlib.sha256(content).hexdigest()
            blobs[f"blobs/sha256/{digest}"] = content
            return {"digest": f"sha256:{digest}", "mediaType": media_type, "size": len(content)}

        config = {"architecture": "amd64", "os": "linux", "config": dict(self.run)}
        manifest = {
            "schemaVersion": 2,
            "config": blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
            "layers": [blob(gzip.compress(layer), self.media_type) for layer in self.layers],
        }
        descriptor = blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
        if self.platform is not None:
            descriptor["platform"] = dict(self.platform)
        index = {"schemaVersion": 2, "manifests": [descriptor]}
        return {
            **blobs,
            "index.json": json.dumps(index).encode(),
            "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        }

    def archive(self) -> bytes:
        """Give it as one file."""
        return archive(Entry(name, content) for name, content in self.files().items())

    def write(self, place: Path) -> Path:
        """Write it as a folder."""
        for name, content in self.files().items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
        return place
