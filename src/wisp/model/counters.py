"""What went through an interface."""

from wisp.primitives.values import frozen


@frozen
class Counters:
    """What went through an interface since it was made.

    Attributes:
        received_packets, sent_packets: As the namespace sees it.
        received_bytes, sent_bytes: Likewise [byte].
        received_dropped, sent_dropped: Packets that found no room, before the rate limit as well.
    """

    received_packets: int
    sent_packets: int
    received_bytes: int
    sent_bytes: int
    received_dropped: int
    sent_dropped: int
