"""A report shown in the browser: built where it is kept, and served to this machine alone."""

from __future__ import annotations

import hashlib
import html
import webbrowser
from pathlib import Path
from types import TracebackType

from evalkit.files import cache_folder
from evalkit.options.fields import OptionError, paths
from evalkit.options.verbs import ReportOptions, ViewOptions
from evalkit.viewer import outlet
from evalkit.viewer.build import Say, build
from evalkit.viewer.serve import Server


class View:
    """A report that is served from a thread of this program, at `address`, until `close` or the program's
    end; `folder` is where it is. In a notebook it shows itself as a link."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._server = folder, Server(folder)
        self.address = self._server.address

    def wait(self) -> None:
        """Returns once it is closed, for a script that would end here; Ctrl-C raises KeyboardInterrupt."""
        self._server.wait()

    def close(self) -> None:
        """Serves no more; the folder stays."""
        self._server.close()

    def __enter__(self) -> View:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<View {self.address} of {self.folder}>"

    def _repr_html_(self) -> str:
        folder = html.escape(str(self.folder))
        return f'<p><a href="{self.address}" target="_blank" rel="noopener">{self.address}</a> ({folder})</p>'


def view(options: ViewOptions, command: str, say: Say = lambda text: None) -> View:
    """Serves a report, or builds that of runs and serves it; opens the browser unless `no_browser`."""
    places = paths(options.runs)
    if len(places) == 1 and outlet.is_report(places[0]):
        _refuse_unused(options)
        folder = places[0]
    else:
        folder = _built(options, command, say)
    shown = View(folder)
    if not options.no_browser:
        webbrowser.open(shown.address)
    return shown


def _refuse_unused(options: ViewOptions) -> None:
    """Raises OptionError for what changes how a report is made: this one is there."""
    for name, value in options.given().items():
        if name in ("limit", "data_root") and name not in options.from_file:
            raise OptionError(
                name, value, f"{paths(options.runs)[0]} is a report already; leave it out, or name the runs"
            )


def _built(options: ViewOptions, command: str, say: Say) -> Path:
    """The folder of the report of these runs, which is kept in the cache with its pictures."""
    places = paths(options.runs)
    named = "\0".join(str(place.resolve()) for place in places)
    folder = cache_folder() / "reports" / hashlib.sha256(named.encode()).hexdigest()[:16]
    build(
        ReportOptions(
            runs=places, output=folder, limit=options.limit, data_root=options.data_root,
            allow_code=options.allow_code,
        ),
        command, say,
    )  # fmt: skip
    return folder
