"""Names and keys of snapshots, and which are removed when."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from wisp.drivers.instance.snapshot import Snapshots
from wisp.drivers.keeper.client import SnapshotPlace, SpawnOrder, Tended
from wisp.model.description import HealthCheck, Kind
from wisp.model.instance import Handle, InstanceSpec
from wisp.primitives.errors import TransientDriverError
from wisp.primitives.time import Duration, Instant

SPEC = InstanceSpec(
    name="web", kind=Kind.MICROVM, host="h", namespace="host/h", cpu_millicores=100, memory_bytes=1 << 23,
    health=HealthCheck(), boot_deadline=Duration.of_seconds(1),
)  # fmt: skip


@pytest.fixture
def hypervisor(tmp_path: Path) -> str:
    program = tmp_path / "qemu"
    program.write_text("one")
    return str(program)


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    return Snapshots(tmp_path / "snapshots")


def handle(spec: InstanceSpec) -> Handle:
    return Handle(
        driver=spec.kind, instance=spec.name, spec_digest=spec.digest, child="x", pid=0, start_ticks=0,
        spawned_at=Instant(0), is_summoned=True,
    )  # fmt: skip


def test_only_its_owner_may_look_into_the_folder(snapshots, hypervisor):
    place = snapshots.place(SPEC, (hypervisor,), "name=web")
    assert place.path.parent.stat().st_mode & 0o777 == 0o700
    assert len(place.key) == 32


def test_another_line_command_or_hypervisor_is_another_key(snapshots, hypervisor):
    keys = [snapshots.place(SPEC, (hypervisor,), "name=web").key for _ in range(2)]
    assert len(set(keys)) == 1
    keys.append(snapshots.place(SPEC, (hypervisor,), "name=web token=a").key)
    keys.append(snapshots.place(SPEC, (hypervisor, "-m", "16M"), "name=web").key)
    os.utime(hypervisor, ns=(1, 1))
    keys.append(snapshots.place(SPEC, (hypervisor,), "name=web").key)
    assert len(set(keys)) == 4


def test_what_it_left_when_it_was_another_is_removed_and_nothing_else(snapshots, hypervisor):
    changed, other = replace(SPEC, memory_bytes=1 << 24), replace(SPEC, name="web-2")
    paths = []
    for spec in (SPEC, other):
        paths.append(snapshots.place(spec, (hypervisor,), "").path)
        paths[-1].touch()
    half = paths[0].with_name(f"{paths[0].name}.partial")
    half.touch()
    kept = snapshots.place(changed, (hypervisor,), "").path
    kept.touch()
    assert [path.exists() for path in (paths[0], half, paths[1])] == [False, False, True]
    snapshots.place(changed, (hypervisor,), "")
    assert kept.exists()


def test_it_is_removed_with_its_instance(snapshots, hypervisor):
    path = snapshots.place(SPEC, (hypervisor,), "").path
    path.touch()
    path.with_name(f"{path.name}.partial").touch()
    snapshots.remove(handle(replace(SPEC, memory_bytes=1)))
    assert path.exists()
    snapshots.remove(handle(SPEC))
    snapshots.remove(handle(SPEC))
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path, hypervisor):
    (tmp_path / "file").touch()
    with pytest.raises(TransientDriverError, match=r"web: .*file/snapshots cannot be prepared"):
        Snapshots(tmp_path / "file" / "snapshots").place(SPEC, (hypervisor,), "")


@pytest.mark.parametrize(
    ("tended", "when_idle"),
    [
        (Tended(identity="x", tap="t"), b'"when_idle":"deleted"'),
        (Tended(identity="x", tap="t", is_stopped=True), b'"when_idle":"stopped"'),
        (
            Tended(identity="x", tap="t", snapshot=SnapshotPlace(path=Path("/s/web"), key="k")),
            b'"when_idle":{"snapshotted":{"path":"/s/web","key":"k"}}',
        ),
    ],
)
def test_the_keeper_is_told_in_its_own_words(tended: Tended, when_idle: bytes) -> None:
    assert when_idle in SpawnOrder(child_id="x", argv=("/x",), tended=tended).packet().body
