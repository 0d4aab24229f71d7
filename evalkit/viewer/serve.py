"""A report on a port of this machine alone, for a browser that may not read files from disk."""

from __future__ import annotations

import http.server
import threading
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


class Server:
    """Serves a folder from a thread, on a port that is free, at `address`, until it is closed."""

    def __init__(self, folder: Path) -> None:
        self._server = _Server((HOST, 0), partial(_Handler, directory=str(folder)))
        self._closed = threading.Event()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://{HOST}:{self._server.server_port}/"

    def wait(self) -> None:
        """Returns once it is closed. (To join a thread that runs on is not safe to interrupt.)"""
        self._closed.wait()

    def close(self) -> None:
        """Answers no more; a second time does nothing."""
        if not self._closed.is_set():
            self._server.shutdown()
            self._server.server_close()
            self._closed.set()
