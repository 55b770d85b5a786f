"""An ordinary web server: ``/film`` of one megabyte, and ``/time``, which nobody is to store."""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FILM = bytes(range(256)) * 4096


class Handler(BaseHTTPRequestHandler):
    """Answers by path."""

    def do_GET(self) -> None:
        """Answer; a film that the other side has already is not sent again."""
        if self.path == "/film" and self.headers["If-None-Match"] == '"film-1"':
            self.send_response(304)
            self.end_headers()
        elif self.path == "/film":
            self.answer(FILM, {"ETag": '"film-1"', "Content-Type": "video/mp4"})
        elif self.path == "/time":
            self.answer(f"{time.time():.0f}\n".encode(), {"Cache-Control": "no-store"})
        else:
            self.send_error(404)

    def answer(self, body: bytes, headers: dict[str, str]) -> None:
        """Send a whole body."""
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()
