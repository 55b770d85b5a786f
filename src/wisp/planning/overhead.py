"""What an instance costs its host beside the memory that it was given: the hypervisor, the tap, the kernel's records.

From ``wisp bench density``, which measures what an instance of many really takes (``memory_bytes_each``; little of it
is memory that a guest at rest has touched) and compares it with what is reckoned here (``reckoned_over_real_memory``).
What all of a kind share, as the program of the hypervisor, is there once and not in it. Larger machines than
``microvm`` were not measured: for them it is a lower bound.
"""

from wisp.model.description import Kind, Vdu

OVERHEAD_BYTES = {
    Kind.MICROVM: 13 << 20,
    Kind.SPT: 256 << 10,
    Kind.IMAGE: 13 << 20,
    Kind.VM: 13 << 20,
    Kind.CONTAINER: 512 << 10,
    Kind.PROCESS: 0,
}


def cost_bytes(vdu: Vdu) -> int:
    """Give the memory that an instance takes of its host [byte]."""
    return vdu.memory_bytes + OVERHEAD_BYTES[vdu.kind]
