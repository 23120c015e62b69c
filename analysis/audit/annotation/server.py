"""The page for raters, served to this machine alone: fixed addresses, every request checked, saved before it is said.

A page in another tab of the browser must not answer for the rater: the address is 127.0.0.1, the name that the browser
asked for must be this one (else a foreign name could be made to lead here), a change needs a header that foreign pages
cannot send, and what runs in the page must carry the nonce of this one response.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import secrets
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from ablate.records import UserError
from ablate.store.files import disk_trouble
from analysis.audit.annotation.answers import AnswerFile
from analysis.audit.sample_folder import SampleFolder
from analysis.audit.sampling import QUESTION_COLUMNS, Answer, sheet

HOST = "127.0.0.1"
HEADER = "X-Ablate-Annotate"
"""Header of every change; a foreign page cannot send it without asking first, and it is never allowed."""
MAX_BODY_BYTES = 4096
GRACE_S = 5.0
"""Between the last answer and the end of a page that ends by itself: time to take an answer back."""
_PAGE = files("analysis.audit.annotation") / "page"
_NONCE = "NONCE"


@dataclass(frozen=True)
class Task:
    """What a page asks for."""

    answers: AnswerFile
    sheets: Sequence[str]
    """Names of the sheets, in the order in which they are shown."""
    said: Mapping[str, Sequence[Sequence[Answer]]]
    """Sheet -> what raters said, where it is to be settled; empty for raters, who see nothing of each other."""

    @property
    def num_done(self) -> int:
        """Number of sheets that are answered."""
        return sum(name in self.answers.answers for name in self.sheets)

    @property
    def is_done(self) -> bool:
        """Return whether every sheet is answered."""
        return self.num_done == len(self.sheets)

    def record(self) -> dict[str, Any]:
        """Return everything that the page shows: the blinded sheets, and the answers that were saved."""
        sample: SampleFolder = self.answers.sample
        saved = self.answers.answers
        shown = []
        for name in self.sheets:
            texts = dataclasses.asdict(sheet(sample.sheets[name], sample.seed))
            shown.append(
                {
                    "id": name,
                    "query": texts["query"],
                    "instructions": [texts["first_instruction"], texts["second_instruction"]],
                    "passages": [texts["first_passage"], texts["second_passage"]],
                    "answers": saved.get(name),
                    "said": self.said.get(name, []),
                }
            )
        order = [name for name in saved if name in set(self.sheets)]
        return {"rater": self.answers.rater, "settles": bool(self.said), "sheets": shown, "order": order}


class PageServer(ThreadingHTTPServer):
    """Serves one task on a port of this machine; port 0 takes a free one.

    `stop_when_done`: ends `GRACE_S` after the last sheet was answered. Raises UserError for a port that is taken.
    """

    daemon_threads = True

    def __init__(self, task: Task, port: int, *, stop_when_done: bool = False) -> None:
        self.task, self.stop_when_done = task, stop_when_done
        self.changing = threading.Lock()
        self._end: threading.Timer | None = None
        self.texts = {name: (_PAGE / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")}
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            why = "is in use" if error.errno == errno.EADDRINUSE else "is not allowed to you"
            raise UserError(f"--port {port} {why}; name another, or leave it out for a free one") from None

    @property
    def address(self) -> str:
        """Return the address of the page."""
        return f"http://{HOST}:{self.server_port}/"

    def change(self, action: str, values: dict[str, Any]) -> dict[str, Any]:
        """Save or take back the answers of a sheet, and return the progress.

        Raises UserError for what the page would never send.
        """
        name, answers = values.get("sheet"), values.get("answers")
        if not isinstance(name, str) or name not in self.task.sheets:
            raise UserError("this is no sheet of the sample; load the page again")
        with self.changing:
            if action == "/take_back":
                self.task.answers.take_back(name)
            else:
                if not isinstance(answers, list) or len(answers) != len(QUESTION_COLUMNS):
                    raise UserError(f"a sheet has {len(QUESTION_COLUMNS)} answers")
                if any(answer is not None and not isinstance(answer, bool) for answer in answers):
                    raise UserError("an answer is true, false or null")
                self.task.answers.save(name, answers)
            self._end_when_done()
            return {"done": self.task.num_done}

    def _end_when_done(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None
        if self.stop_when_done and self.task.is_done:
            self._end = threading.Timer(GRACE_S, self.shutdown)
            self._end.daemon = True
            self._end.start()

    def server_close(self) -> None:
        """Close the door: an answer that is being written is written, and no other is taken any more."""
        super().server_close()
        self.changing.acquire()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what went wrong in a request, but for a browser that went away."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    timeout = 60
    server_version, sys_version = "ablate", ""

    def do_GET(self) -> None:
        if not self._is_ours():
            return
        texts = self.server.texts
        if self.path == "/":
            nonce = secrets.token_urlsafe(16)
            self._send(200, "text/html", texts["page.html"].replace(_NONCE, nonce), nonce)
        elif self.path == "/page.css":
            self._send(200, "text/css", texts["page.css"])
        elif self.path == "/page.js":
            self._send(200, "text/javascript", texts["page.js"])
        elif self.path == "/task":
            with self.server.changing:
                record = self.server.task.record()
            self._send_json(200, record)
        else:
            self._refuse(404, "there is nothing at this address")

    def do_POST(self) -> None:
        if not self._is_ours():
            return
        origin, length = self.headers.get("Origin"), self.headers.get("Content-Length", "")
        if self.headers.get(HEADER) != "1" or origin not in (None, f"http://{self.headers['Host']}"):
            self._refuse(403, "this was not sent by the page")
        elif self.path not in ("/save", "/take_back"):
            self._refuse(404, "there is nothing at this address")
        elif not (length.isascii() and length.isdecimal() and len(length) < 10 and int(length) <= MAX_BODY_BYTES):
            self._refuse(413, f"a change is of at most {MAX_BODY_BYTES} bytes")
        else:
            self._change(self.rfile.read(int(length)))

    def _change(self, body: bytes) -> None:
        try:
            values = json.loads(body)
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            self._refuse(400, "this is no JSON object")
            return
        try:
            progress = self.server.change(self.path, values)
        except UserError as error:
            self._refuse(400, str(error))
        except OSError as error:
            self._refuse(500, disk_trouble(error) or error.strerror or "the file could not be written")
        else:
            self._send_json(200, progress)

    def _is_ours(self) -> bool:
        """Refuse a request that asked for another name: a foreign one that was made to lead to this machine."""
        port = self.server.server_port
        if self.headers.get("Host") in (f"{HOST}:{port}", f"localhost:{port}"):
            return True
        self._refuse(403, f"the page is at {self.server.address}")
        return False

    def _refuse(self, code: int, words: str) -> None:
        self.close_connection = True  # a body that was not read would be taken for the next request
        self._send_json(code, {"error": words})

    def _send_json(self, code: int, values: dict[str, Any]) -> None:
        self._send(code, "application/json", json.dumps(values))

    def _send(self, code: int, kind: str, text: str, nonce: str | None = None) -> None:
        content = text.encode()
        allowed = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        if nonce is not None:
            allowed += f"; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:"
        headers = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(content)),
            "Content-Security-Policy": allowed,
            "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            **({"Connection": "close"} if self.close_connection else {}),
        }
        with contextlib.suppress(ConnectionError):
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the page shows what is saved and what is not."""
