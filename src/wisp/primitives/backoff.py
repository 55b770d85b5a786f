"""How long to wait before what has failed is tried again."""

from wisp.primitives.time import Duration

FIRST_BACKOFF = Duration.of_ms(100)
LONGEST_BACKOFF = Duration.of_seconds(30)


def backoff(failures: int) -> Duration:
    """Give how long to wait before trying again after so many failures in a row.

    Nothing after the first, so that an instance that died is back at once; then 0.1 s, doubling up to 30 s.
    """
    if failures <= 1:
        return Duration(0)
    doublings = min(failures - 2, 30)
    return min(FIRST_BACKOFF * float(1 << doublings), LONGEST_BACKOFF)
