"""The outside: a page over TCP, and every UDP datagram written down. ``outside.py ADDRESS PORT FILE``."""

import asyncio
import sys
from pathlib import Path


class Notebook(asyncio.DatagramProtocol):
    def __init__(self, file: Path) -> None:
        self._file = file

    def datagram_received(self, data: bytes, _: object) -> None:
        with self._file.open("ab") as notes:
            notes.write(data + b"\n")


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.0 200 OK\r\n\r\nhello from outside\n")
    await writer.drain()
    writer.close()


async def serve(address: str, port: int, file: Path) -> None:
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: Notebook(file), local_addr=(address, port))
    async with await asyncio.start_server(greet, address, port) as server:
        print("ready", flush=True)
        await server.serve_forever()


asyncio.run(serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
