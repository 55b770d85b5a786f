"""Joining a cloud as its controller does, and entering it as ``wisp exec`` does."""

from pathlib import Path


async def test_what_is_seen_from_inside(lab):
    found = await lab("inside")
    assert found.pop("processes") < 10
    assert found == {
        "keeper_lives": True,
        "sees_itself": True,
        "keeps_directory": str(Path.cwd()),
        "addresses": 1,
        "pid_is_inner": True,
    }
