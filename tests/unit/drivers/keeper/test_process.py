"""Which keeper is meant, and what a start that failed says."""

import os
from pathlib import Path

import pytest

from wisp.drivers.keeper.process import (
    KeeperIdentity,
    is_alive,
    kill_keeper,
    living_keeper,
    read_identity,
    start_keeper,
)
from wisp.primitives.errors import MissingPrerequisite, PermanentDriverError


def own_identity() -> KeeperIdentity:
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    inode = Path("/proc/self/ns/user").stat().st_ino
    return KeeperIdentity(pid=os.getpid(), start_ticks=int(fields[19]), userns_inode=inode, protocol=1)


def changed(**fields: int) -> KeeperIdentity:
    own = own_identity()
    return KeeperIdentity(**{name: fields.get(name, getattr(own, name)) for name in own.__struct_fields__})


def test_a_process_is_known_by_more_than_its_number():
    assert is_alive(own_identity())
    assert not is_alive(changed(start_ticks=1))
    assert not is_alive(changed(userns_inode=1))
    assert not is_alive(changed(pid=2**22 + 1))


async def test_only_the_very_keeper_is_ended():
    await kill_keeper(changed(start_ticks=1))
    await kill_keeper(changed(pid=2**22 + 1))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', "\0"])
def test_an_unreadable_identity_is_none(tmp_path, text):
    assert read_identity(tmp_path) is None
    (tmp_path / "keeper.json").write_text(text)
    assert read_identity(tmp_path) is None
    assert living_keeper(tmp_path) is None


@pytest.fixture
def failing(tmp_path):
    def make(status: int, words: str) -> Path:
        program = tmp_path / "program"
        program.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit {status}\n")
        program.chmod(0o755)
        return program

    return make


async def test_a_forbidding_machine_is_a_missing_prerequisite(failing, tmp_path):
    program = failing(5, "wisp-native: cannot: setting x is 0; as root: sysctl -w x=1")
    with pytest.raises(MissingPrerequisite) as caught:
        await start_keeper(program, tmp_path)
    assert caught.value.remedy == "as root: sysctl -w x=1"
    assert str(caught.value) == "cannot: setting x is 0; as root: sysctl -w x=1"


async def test_other_failures_say_what_the_program_said(failing, tmp_path):
    with pytest.raises(PermanentDriverError, match=r"keeper of .*: another keeper"):
        await start_keeper(failing(4, "wisp-native: another keeper"), tmp_path)
    with pytest.raises(PermanentDriverError, match="exit status 9"):
        await start_keeper(failing(9, ""), tmp_path)
    with pytest.raises(PermanentDriverError, match="make native"):
        await start_keeper(tmp_path / "no-such-program", tmp_path)


async def test_a_keeper_that_left_no_identity_has_ended(failing, tmp_path):
    with pytest.raises(PermanentDriverError, match="ended at once"):
        await start_keeper(failing(0, ""), tmp_path)
