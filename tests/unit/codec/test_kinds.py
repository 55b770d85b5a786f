"""Each kind says what it wants of a deployment unit and its image."""

from pathlib import PurePath

import pytest

from wisp.codec.description import parse
from wisp.model.description import DesiredState
from wisp.model.image import BootProtocol, Family, ForeignImage, Machine

TEXT = """
cloud: c
sites: {{s: {{}}}}
hosts: {{h: {{site: s, cpu: 1, memory: 1GiB}}}}
images:
  web: {{role: web}}
  kernel: {image}
vnfds: {{f: {{vdus: {{main: {vdu}}}}}}}
network_services: {{n: {{vnfs: {{f: {{vnfd: f}}}}}}}}
"""
KERNEL = "{file: k.elf}"


def read(vdu: str, image: str = KERNEL) -> DesiredState | list[str]:
    found = parse(TEXT.format(vdu=vdu, image=image), file="f", base=PurePath("/here"))
    return found if isinstance(found, DesiredState) else [str(problem) for problem in found]


def test_a_foreign_image_has_files_and_overrides() -> None:
    image = "{file: k.elf, initrd: /i, disk: d.raw, protocol: linux, family: none, machine: microvm}"
    found = read("{kind: vm, image: kernel, command: [single]}", image)
    assert isinstance(found, DesiredState)
    assert found.images[1].foreign == ForeignImage(
        file="/here/k.elf", initrd="/i", disk="/here/d.raw",
        protocol=BootProtocol.LINUX, family=Family.NONE, machine=Machine.MICROVM,
    )  # fmt: skip
    assert found.images[1].role == ""


@pytest.mark.parametrize(
    ("vdu", "image", "words"),
    [
        ("{kind: unikernel/image}", KERNEL, "image: is missing"),
        ("{kind: unikernel/image, image: web}", KERNEL, "web is a role"),
        ("{kind: unikernel/spt, image: kernel}", KERNEL, "kernel is a file"),
        ("{kind: process, command: [x], image: kernel}", KERNEL, "image: has no meaning"),
        ("{kind: vm, image: kernel}", "{role: web, file: k}", "both role and file"),
        ("{kind: vm, image: kernel}", "{}", "neither role nor file"),
        ("{kind: vm, image: kernel}", "{file: k, content: w}", "content: has no meaning beside file"),
        ("{kind: unikernel/spt, image: kernel}", "{role: web, initrd: i}", "initrd: has no meaning beside role"),
        ("{kind: vm, image: kernel, config: {'a b': c}}", KERNEL, "no word of a command line"),
        ("{kind: vm, image: kernel, config: {a: '${secret.t}'}}", KERNEL, "everybody on this machine sees it"),
        ("{kind: vm, image: kernel, config: {a: '${own.size}'}}", KERNEL, "no fact of an instance 'size'"),
    ],
)
def test_what_does_not_fit_is_told(vdu: str, image: str, words: str) -> None:
    found = read(vdu, image)
    assert not isinstance(found, DesiredState)
    assert any(words in problem for problem in found), found


def test_an_imported_image_is_named_by_its_digest() -> None:
    found = read("{kind: vm, image: kernel}", "{file: 'sha256:0123', initrd: i}")
    assert isinstance(found, DesiredState)
    assert found.images[1].foreign == ForeignImage(file="sha256:0123", initrd="/here/i")


@pytest.mark.parametrize("image", ["{file: k, initrd: i}", "{file: k, protocol: pvh}"])
def test_a_container_is_not_booted(image: str) -> None:
    found = read("{kind: container, image: kernel}", image)
    assert not isinstance(found, DesiredState)
    assert ["a container is not" in problem for problem in found] == [True]


@pytest.mark.parametrize("kind", ["vm", "unikernel/image", "container"])
def test_a_foreign_image_does_not_sleep(kind: str) -> None:
    text = TEXT.replace("{{vnfd: f}}", "{{vnfd: f, min_instances: 0}}")
    found = parse(text.format(vdu=f"{{kind: {kind}, image: kernel}}", image=KERNEL), file="f", base=PurePath("/"))
    assert not isinstance(found, DesiredState)
    assert [str(problem) for problem in found] == [
        f"f:9: network_services.n.vnfs.f.min_instances: is 0, but main of f is a {kind}, which cannot be started by "
        "a packet (use unikernel/microvm or unikernel/spt, or min_instances: 1)"
    ]


def test_a_foreign_image_has_no_warm_pool() -> None:
    found = read("{kind: vm, image: kernel}", "{file: k, pool_size: 2}")
    assert not isinstance(found, DesiredState)
    assert any("pool_size: has no meaning beside file" in str(problem) for problem in found), found
