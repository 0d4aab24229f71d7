"""A report on a port of this machine alone, for a browser that may not read files from disk."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

HOST = "127.0.0.1"


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Gives the files of one folder to whoever names this server: another site's name that was made to lead
    here (DNS rebinding) is refused."""

    def do_GET(self) -> None:
        if self._is_for_us():
            super().do_GET()

    def do_HEAD(self) -> None:
        if self._is_for_us():
            super().do_HEAD()

    def _is_for_us(self) -> bool:
        assert isinstance(self.server, _Server)
        port = self.server.server_port
        if self.headers.get("Host", "").lower() in (f"{HOST}:{port}", f"localhost:{port}"):
            return True
        self.send_error(421, "This server has another name")
        return False

    def list_directory(self, path: object) -> None:
        self.send_error(404, "No such page")

    def end_headers(self) -> None:
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: what is asked for is no news."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serves a folder inside the block, on a port that is free; gives its address."""
    server = _Server((HOST, 0), partial(_Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
