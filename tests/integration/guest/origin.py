"""An origin for proxies: counts what it is asked, and goes away for a while when told to.

``/film``: 100 KiB, fresh for an hour. ``/slow``: half a second late, fresh for an hour. ``/news``: fresh for a second,
with a tag. ``/stream``: 8 MiB, not to be stored. ``/live``: the same in chunks, without a length. ``/asked``: what was
asked so far. ``/away``: nobody listens for five seconds.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FILM = bytes(range(256)) * 400
STREAM = bytes(range(256)) * 32768
AWAY_S = 5
LATE_S = 0.5
asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    """Answers by path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        path = self.path.split("?", maxsplit=1)[0]
        condition = self.headers.get("If-None-Match", "")
        asked.append(f"{self.path} {self.headers['Host']} {condition}".strip())
        match path:
            case "/film":
                self.answer(FILM, "Cache-Control: max-age=3600", 'ETag: "film"', "Content-Type: video/mp4")
            case "/slow":
                time.sleep(LATE_S)
                self.answer(b"slow\n", "Cache-Control: max-age=3600")
            case "/news" if condition == '"news"':
                self.send_response(304)
                self.end_headers()
            case "/news":
                self.answer(b"news\n", "Cache-Control: max-age=1", 'ETag: "news"')
            case "/stream":
                self.answer(STREAM, "Cache-Control: no-store")
            case "/live":
                self.chunks()
            case "/asked":
                self.answer(json.dumps(asked).encode())
            case "/away":
                self.answer(b"")
                threading.Thread(target=self.server.shutdown).start()
            case _:
                self.send_error(404)

    def answer(self, body: bytes, *lines: str) -> None:
        """Send a whole body."""
        self.send_response(200)
        for name, value in (line.split(": ") for line in lines):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def chunks(self) -> None:
        """Send the stream in chunks."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(STREAM), 50_000):
            piece = STREAM[start : start + 50_000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")


def main() -> None:
    """Listen, go away, come back."""
    while True:
        server = ThreadingHTTPServer(("", int(sys.argv[1])), Handler)
        server.serve_forever(poll_interval=0.05)
        server.server_close()
        time.sleep(AWAY_S)


main()
