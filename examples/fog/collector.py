"""The core's collector: asks every aggregator for its statistics each second, and serves the latest.

Environment: AGGREGATORS as "NAME=ADDRESS NAME=ADDRESS ...", PORT to serve on (8080).
Serves GET /health and GET /latest (JSON). Keeps one answer per aggregator, so its memory does not grow.
"""

import asyncio
import json
import os
import time

PERIOD_S = 1.0
TIMEOUT_S = 2.0
ANSWER_LIMIT = 64 * 1024
REQUEST_LIMIT = 8 * 1024


async def fetch(address: str, path: str) -> dict[str, object]:
    """Give the JSON at http://ADDRESS:80PATH.

    Raises:
        OSError, TimeoutError, ValueError: It did not answer, or not with JSON.
    """
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(address, 80)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
            answer = await read_answer(reader)
        finally:
            writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
        raise ValueError(f"answered {head[:40]!r}")
    return json.loads(body)


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """Read until the other side closes."""
    answer = b""
    while chunk := await reader.read(4096):
        answer += chunk
        if len(answer) > ANSWER_LIMIT:
            raise ValueError(f"answer is longer than {ANSWER_LIMIT} bytes")
    return answer


class Collector:
    """Holds the latest answer of each aggregator.

    Args:
        aggregators: Name → address.
    """

    def __init__(self, aggregators: dict[str, str]) -> None:
        self._aggregators = aggregators
        self.latest: dict[str, dict[str, object]] = {}

    async def follow_all(self) -> None:
        """Ask all aggregators until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, address in self._aggregators.items():
                group.create_task(self._follow(name, address))

    async def _follow(self, name: str, address: str) -> None:
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            await self._ask(name, address)
            await asyncio.sleep(max(0.0, started + PERIOD_S - loop.time()))

    async def _ask(self, name: str, address: str) -> None:
        started = time.monotonic()
        try:
            stats = await fetch(address, "/stats")
        except (OSError, TimeoutError, ValueError) as error:
            known = self.latest.get(name, {"stats": None, "at": None, "round_trip_ms": None})
            self.latest[name] = {**known, "error": f"{type(error).__name__}: {error}"}
            return
        elapsed_ms = round((time.monotonic() - started) * 1000, 2)
        self.latest[name] = {"stats": stats, "at": time.time(), "round_trip_ms": elapsed_ms, "error": None}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and close."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.split(b" ", 1)[0]
        if method != b"GET":
            return response("405 Method Not Allowed", {"error": "only GET"})
        if path == b"/health":
            return response("200 OK", {"status": "ok"})
        if path == b"/latest":
            return response("200 OK", {"aggregators": self.latest})
        return response("404 Not Found", {"error": "try /latest"})


def response(status: str, body: object) -> bytes:
    """Give a whole HTTP response with a JSON body."""
    payload = json.dumps(body).encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(payload)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + payload


async def run() -> None:
    pairs = (word.split("=", 1) for word in os.environ.get("AGGREGATORS", "").split())
    collector = Collector(dict(pairs))
    port = int(os.environ.get("PORT", "8080"))
    server = await asyncio.start_server(collector.serve, "0.0.0.0", port, limit=REQUEST_LIMIT)  # noqa: S104
    async with server:
        await collector.follow_all()
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(run())
