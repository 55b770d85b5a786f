"""What the description says of what sleeping means."""

from pathlib import PurePath

import pytest

from wisp.codec.description import parse
from wisp.codec.written import render
from wisp.model.description import DesiredState, WhenIdle

TEXT = """
cloud: c
sites: {{s: {{}}}}
hosts: {{h: {{site: s, cpu: 1, memory: 1GiB}}}}
images: {{web: {{role: web, pool_size: 1}}}}
vnfds:
  machine: {{vdus: {{main: {{kind: unikernel/microvm, image: web}}}}}}
  program: {{vdus: {{main: {{kind: unikernel/spt, image: web}}}}}}
  mixed: {{vdus: {{one: {{kind: unikernel/microvm, image: web}}, two: {{kind: unikernel/spt, image: web}}}}}}
  command: {{vdus: {{main: {{kind: process, command: [x]}}}}}}
network_services: {{n: {{vnfs: {{w: {{{vnf}}}}}}}}}
"""


def read(vnf: str) -> DesiredState | list[str]:
    found = parse(TEXT.format(vnf=vnf), file="f", base=PurePath("/here"))
    return found if isinstance(found, DesiredState) else [str(problem) for problem in found]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("", WhenIdle.DELETED),
        (", when_idle: deleted", WhenIdle.DELETED),
        (", when_idle: stopped", WhenIdle.STOPPED),
        (", when_idle: snapshotted", WhenIdle.SNAPSHOTTED),
    ],
)
def test_what_is_said_is_meant_and_written_again(said: str, meant: WhenIdle) -> None:
    found = read(f"vnfd: machine, min_instances: 0{said}")
    assert isinstance(found, DesiredState)
    assert found.instances[0].when_idle is meant
    assert parse(render(found), file="f", base=PurePath("/here")) == found


@pytest.mark.parametrize("word", ["stopped", "snapshotted"])
@pytest.mark.parametrize(
    ("vnf", "words"),
    [
        ("vnfd: program, min_instances: 0", "main of program is a unikernel/spt, which cannot be kept"),
        ("vnfd: program, min_instances: 0", "it starts anew in under 1 ms"),
        ("vnfd: mixed, min_instances: 0", "two of mixed is a unikernel/spt, which cannot be kept"),
        ("vnfd: command, min_instances: 0", "main of command is a process, which cannot be kept"),
        ("vnfd: machine", "with min_instances: 1 it never sleeps"),
        ("vnfd: machine, min_instances: 2", "with min_instances: 2 it never sleeps"),
    ],
)
def test_what_cannot_be_kept_is_told(vnf: str, words: str, word: str) -> None:
    found = read(f"{vnf}, when_idle: {word}")
    assert not isinstance(found, DesiredState)
    assert any(f"n.vnfs.w.when_idle: is {word}" in problem and words in problem for problem in found), found


def test_another_word_is_refused() -> None:
    found = read("vnfd: machine, min_instances: 0, when_idle: frozen")
    assert not isinstance(found, DesiredState)
    assert "snapshotted" in found[0]
