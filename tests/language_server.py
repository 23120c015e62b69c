"""A server on the loopback that speaks the protocol of chat completions, rightly or in any wrong way."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 100, "completion_tokens": 20}


@dataclass
class Action:
    """How one request is answered."""

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    cut: bool = False
    """Half of the body, then the connection ends."""


def says(content: str | None, *, refusal: str | None = None, finish: str = "stop", usage: Any = USAGE) -> Action:
    """Return a well-formed answer with this content."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "usage": usage}
    return Action(body=json.dumps({**body, "choices": [{"index": 0, "message": message, "finish_reason": finish}]}))


def error(status: int, message: str = "no", code: str | None = None, **headers: str) -> Action:
    """Return an error as OpenAI words them."""
    body = json.dumps({"error": {"message": message, "code": code, "type": code}})
    return Action(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


@dataclass
class Request:
    """What was asked, when, and whether a whole answer was sent."""

    body: dict[str, Any]
    at: float
    authorization: str
    answered: bool = False

    @property
    def asked(self) -> str:
        """The user's message."""
        return str(self.body["messages"][-1]["content"])


class LanguageServer:
    """Answers by a function of the request and of how often the same was asked before."""

    def __init__(self, answer: Callable[[Request, int], Action]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer._serve(self)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass  # whoever asked is gone: killed, or out of time

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def address(self) -> str:
        """The address to ask."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def counts(self) -> dict[str, int]:
        """Return how often each thing was answered as a whole."""
        counts: dict[str, int] = {}
        for request in self.requests:
            counts[request.asked] = counts.get(request.asked, 0) + request.answered
        return counts

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        raw = handler.rfile.read(int(handler.headers["Content-Length"]))
        request = Request(json.loads(raw), time.monotonic(), handler.headers.get("Authorization", ""))
        with self._lock:
            before = sum(other.asked == request.asked for other in self.requests)
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        action = self.answer(request, before)
        time.sleep(action.delay_s)
        with self._lock:
            self._at_once -= 1
        content = action.body.encode()
        with contextlib.suppress(OSError):
            handler.send_response(action.status)
            for name, value in {"Content-Type": "application/json", **action.headers}.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content[: len(content) // 2] if action.cut else content)
            handler.wfile.flush()
            request.answered = action.status < 400 and not action.cut
        handler.close_connection = action.cut

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Serve no more; the port is closed."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def serving(answer: Callable[[Request, int], Action]) -> Iterator[LanguageServer]:
    """Run a server for the time of a block."""
    server = LanguageServer(answer)
    server.start()
    try:
        yield server
    finally:
        server.stop()
