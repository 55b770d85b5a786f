"""What the description says of several instances behind one address."""

from pathlib import PurePath

import pytest

from wisp.codec.description import parse
from wisp.model.description import DesiredState, Elasticity
from wisp.primitives.time import Duration

TEXT = """
cloud: c
sites: {{s: {{}}}}
hosts: {{h: {{site: s, cpu: 1, memory: 1GiB}}}}
images: {{web: {{role: web}}}}
vnfds:
  f: {{vdus: {{main: {{kind: unikernel/spt, image: web}}}}}}
  p: {{vdus: {{main: {{kind: process, command: [x]}}}}}}
network_services: {{n: {{vnfs: {{{vnfs}}}}}}}
"""


def read(vnfs: str) -> DesiredState | list[str]:
    found = parse(TEXT.format(vnfs=vnfs), file="f", base=PurePath("/here"))
    return found if isinstance(found, DesiredState) else [str(problem) for problem in found]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("min_instances: 1", None),
        ("max_instances: 1", None),
        ("min_instances: 3", Elasticity(minimum=3, maximum=3, cpu_ppm=700_000)),
        ("max_instances: 4", Elasticity(minimum=1, maximum=4, cpu_ppm=700_000)),
        ("min_instances: 0, max_instances: 4", Elasticity(minimum=1, maximum=4, cpu_ppm=700_000)),
        (
            "max_instances: 2, drain: 3s, scaling: {rate: 5, latency: 2ms, calm: 1min}",
            Elasticity(
                maximum=2,
                connections_per_s=5,
                answer=Duration.of_ms(2),
                calm=Duration.of_seconds(60),
                drain=Duration.of_seconds(3),
            ),
        ),
    ],
)
def test_what_is_said_is_meant(said: str, meant: Elasticity | None) -> None:
    found = read(f"w: {{vnfd: f, {said}}}")
    assert isinstance(found, DesiredState)
    assert found.instances[0].elasticity == meant


@pytest.mark.parametrize(
    ("vnfs", "words"),
    [
        ("w: {vnfd: f, min_instances: 3, max_instances: 2}", "max_instances: is 2, less than min_instances: 3"),
        ("w: {vnfd: p, max_instances: 2}", "max_instances: is more than 1, but main of p is a process"),
        ("w: {vnfd: p, min_instances: 2}", "min_instances: is more than 1, but main of p is a process"),
        ("w: {vnfd: f, max_instances: 65}", "max_instances"),
        ("w: {vnfd: f, max_instances: 2}, w-2: {vnfd: f}", "names like 'w-2', which is that of"),
    ],
)
def test_what_does_not_fit_is_told(vnfs: str, words: str) -> None:
    found = read(vnfs)
    assert not isinstance(found, DesiredState)
    assert any(words in problem for problem in found), found
