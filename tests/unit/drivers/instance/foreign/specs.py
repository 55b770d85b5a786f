"""A spec to make command lines of."""

from typing import Any

from wisp.model.description import HealthCheck, Kind
from wisp.model.instance import InstanceSpec
from wisp.primitives.time import Duration


def spec(**words: Any) -> InstanceSpec:
    given: dict[str, Any] = {
        "name": "web-1", "kind": Kind.IMAGE, "host": "h", "namespace": "host/h", "cpu_millicores": 100,
        "memory_bytes": 32 << 20, "address": "10.0.16.2", "prefix_length": 20, "gateway": "10.0.16.1",
        "mac": "02:00:0a:00:10:02", "health": HealthCheck(), "boot_deadline": Duration.of_seconds(5),
    }  # fmt: skip
    return InstanceSpec(**(given | words))
