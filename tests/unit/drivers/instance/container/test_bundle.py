"""What a container's runtime is told."""

from dataclasses import replace

import pytest
from tests.integration.cloud.drivers import planned

from wisp.drivers.instance.container.bundle import arguments, configuration
from wisp.drivers.instance.container.oci import ContainerImage
from wisp.model.description import Kind
from wisp.primitives.errors import PermanentDriverError

SPEC = planned()[0][Kind.CONTAINER]
IMAGE = ContainerImage(
    entrypoint=("/bin/server",), arguments=("--own",), environment={"PATH": "/own", "A": "1"}, folder="/srv"
)


def test_it_may_do_nothing() -> None:
    found = configuration(SPEC, IMAGE, {})
    process = found["process"]
    assert process["noNewPrivileges"]
    assert set(map(tuple, process["capabilities"].values())) == {()}
    refused = {name for rule in found["linux"]["seccomp"]["syscalls"] for name in rule["names"]}
    assert {"mount", "unshare", "setns", "bpf", "clone3", "keyctl"} <= refused


def test_the_description_wins_over_the_image() -> None:
    spec = replace(SPEC, command=("-x",), config=(("A", "2"), ("KEY", "${secret.key}")), secrets=(("key", "f"),))
    process = configuration(spec, IMAGE, {"key": "value"})["process"]
    assert process["args"] == ["/bin/server", "-x"]
    assert set(process["env"]) == {"PATH=/own", f"WISP_NAME={SPEC.name}", "A=2", "KEY=value"}
    assert process["cwd"] == "/srv"


def test_without_a_command_the_image_says_what_runs() -> None:
    spec = replace(SPEC, command=())
    assert arguments(spec, IMAGE) == ("/bin/server", "--own")
    with pytest.raises(PermanentDriverError, match=f"{SPEC.name}: nobody says what to run"):
        arguments(spec, ContainerImage())
