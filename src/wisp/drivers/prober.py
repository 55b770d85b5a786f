"""Asks instances over the network, from inside their own host's namespace."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

from wisp.model.description import HealthCheck, HealthProtocol
from wisp.model.instance import InstanceSpec
from wisp.primitives.errors import WispError
from wisp.primitives.time import Duration

ANSWER_BYTES = 4096


class NamespaceProber:
    """Implements :class:`wisp.ports.health.HealthProber`.

    Args:
        socket_in: Makes a TCP socket inside a namespace, given by name.
    """

    def __init__(self, socket_in: Callable[[str], Awaitable[socket.socket]]) -> None:
        self._socket_in = socket_in

    async def probe(self, spec: InstanceSpec, *, within: Duration) -> str | None:
        """Check once; see the port."""
        check = spec.health
        if check.protocol is HealthProtocol.ALIVE or spec.address is None:
            return None
        try:
            async with asyncio.timeout(within.seconds):
                return await self._ask(spec.namespace, spec.address, check)
        except TimeoutError:
            return f"no answer on port {check.port} within {within.seconds:g} s"
        except (OSError, WispError) as error:
            return f"port {check.port}: {error}"

    async def _ask(self, namespace: str, address: str, check: HealthCheck) -> str | None:
        loop = asyncio.get_running_loop()
        with await self._socket_in(namespace) as connection:
            await loop.sock_connect(connection, (address, check.port))
            if check.protocol is HealthProtocol.TCP:
                return None
            request = f"GET {check.path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
            await loop.sock_sendall(connection, request.encode())
            return _verdict(await loop.sock_recv(connection, ANSWER_BYTES))


def _verdict(answer: bytes) -> str | None:
    """Judge the first bytes of an HTTP answer: ``None`` for 2xx."""
    status = answer.split(b"\r\n", 1)[0].split(b" ")
    if len(status) >= 2 and status[0].startswith(b"HTTP/1.") and status[1].startswith(b"2"):
        return None
    return f"answered {answer[:40].decode(errors='replace')!r} to the health check"
