"""The addresses of the page, and what they answer."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote_to_bytes

import jinja2
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from piperkit import engines
from piperkit.cli import hands, render
from piperkit.cli.hands import Act, Listed
from piperkit.errors import PiperError, UsageError
from piperkit.feed import Feed, Moment
from piperkit.operating import HOLDING, View
from piperkit.pipeline.graph import Graph
from piperkit.web import pages
from piperkit.web.guard import Guard, is_word, word

HERE = Path(__file__).parent
#: Files that lie beside the pages.
FILES = {"style.css": "text/css", "live.js": "text/javascript"}
#: What became of the last acts, for the pages that are shown after them.
_SAID_MAX = 100
#: Seconds after which a stream says that it is alive.
_ALIVE = 15.0
#: Fields of a form, and its bytes.
_NAMED_MAX, _FORM_MAX = 1000, 1 << 20


class Web:
    """The application, for an ASGI server: `app`.

    views: the queues. title: what they are called together. every: seconds between looks. token: what one has to know.
    hosts: what a Host header may say. acts: whether anything may be changed. graph: of the daemons, if it is known.
    """

    def __init__(
        self,
        views: Sequence[View],
        title: str,
        token: str,
        hosts: Collection[str],
        *,
        every: float = 2.0,
        acts: bool = False,
        graph: Graph | None = None,
    ) -> None:
        self._named = pages.Named([view.path for view in views])
        self._title = title
        self._token = token
        self._acts = acts
        self._said: collections.OrderedDict[str, str] = collections.OrderedDict()
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
        )
        self._feed = Feed(views, every, self._looked, graph)
        self._moment = Moment((), 0.0)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()  #: set when there is another look, or the end; then there is a new one
        self._stopped = False
        self.app = Starlette(
            routes=[
                Route("/", self._overview),
                Route("/live", self._live),
                Route("/queues/{queue}", self._queue),
                Route("/queues/{queue}/errors", self._errors),
                Route("/queues/{queue}/message", self._message),
                Route("/queues/{queue}/act", self._act, methods=["POST"]),
                *(Route(f"/{name}", self._file) for name in FILES),
                Route("/favicon.ico", lambda request: Response(status_code=204)),  # browsers ask for it
            ],
            middleware=[Middleware(Guard, token=token, hosts=hosts, acts=acts)],
            exception_handlers={HTTPException: self._wrong, PiperError: self._wrong, OSError: self._wrong},
            lifespan=self._life,
        )

    @contextlib.asynccontextmanager
    async def _life(self, app: Starlette) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        self._moment = await run_in_threadpool(self._feed.look)
        self._feed.start()
        try:
            yield
        finally:
            self._feed.stop()
            self.end_streams()

    def end_streams(self) -> None:
        """Let the pages that are open go; idempotent. It may be called by any thread, and by a signal's handler."""
        self._stopped = True
        self._in_loop(self._tell)

    def _looked(self, moment: Moment) -> None:
        """In the feed's thread."""

        def take() -> None:
            self._moment = moment
            self._tell()

        self._in_loop(take)

    def _in_loop(self, call: Callable[[], None]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(call)

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    # -- what is shown ---------------------------------------------------------------------------------------

    async def _overview(self, request: Request) -> Response:
        values = pages.overview(self._feed, self._moment, self._named)
        return self._page(request, "overview.html", **values)

    async def _queue(self, request: Request) -> Response:
        part = request.query_params.get("part", "incoming")
        if part not in HOLDING:
            raise HTTPException(404, f"A queue has no part {part}.")
        kind = _query(request, "kind") if part == "errors" else None
        values = await self._looked_at(request, lambda view: pages.queue(view, part, self._named, kind))
        return self._page(request, "queue.html", **values)

    async def _errors(self, request: Request) -> Response:
        values = await self._looked_at(request, lambda view: pages.errors(view, self._named))
        return self._page(request, "errors.html", **values)

    async def _message(self, request: Request) -> Response:
        id = _query(request, "id") or ""
        values = await self._looked_at(request, lambda view: pages.message(view, id, self._named))
        return self._page(request, "message.html", **values)

    async def _file(self, request: Request) -> Response:
        name = request.url.path.lstrip("/")
        return FileResponse(HERE / name, media_type=FILES[name])

    async def _live(self, request: Request) -> Response:
        """All queues again and again, as server-sent events."""

        async def events() -> AsyncIterator[bytes]:
            last = self._moment
            while not self._stopped and not await request.is_disconnected():
                if self._moment is last:
                    # Nothing but this waits here: however many pages are open, no thread does.
                    try:
                        await asyncio.wait_for(self._news.wait(), _ALIVE)
                    except TimeoutError:
                        yield b": alive\n\n"
                    continue
                last = self._moment
                text = self._render("live.html", **pages.overview(self._feed, last, self._named))
                yield b"".join(b"data: " + line.encode() + b"\n" for line in text.split("\n")) + b"\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    # -- what is done ----------------------------------------------------------------------------------------

    async def _act(self, request: Request) -> Response:
        queue = self._queue_of(request)
        form = await _form(request)
        if not is_word(form.get("word", [""])[0], self._token):
            raise HTTPException(403, "That form is from another page, or an older version of this one.")
        messages = tuple(_listed(each) for each in form.get("message", []))
        kind = form.get("kind", [None])[0]
        why = form.get("why", [""])[0] or ""
        act = Act(queue, form.get("act", [""])[0], messages, kind, why)
        if act.what not in hands.WHOLE and kind is None and not messages:
            said = "Nothing was done: no message was chosen."
        else:
            said = await run_in_threadpool(hands.perform, act, "piperctl web")
        self._feed.now()
        key = secrets.token_urlsafe(12)
        self._said[key] = said
        while len(self._said) > _SAID_MAX:
            self._said.popitem(last=False)
        part = form.get("part", [""])[0]
        if kind is not None:
            return RedirectResponse(self._named.address(queue, "/errors", done=key), 303)
        more = {"part": part} if part in HOLDING else {}
        return RedirectResponse(self._named.address(queue, "", **more, done=key), 303)

    # -- what they share -------------------------------------------------------------------------------------

    def _queue_of(self, request: Request) -> str:
        queue = self._named.queue(request.path_params["queue"])
        if queue is None:
            raise HTTPException(404, "There is no such queue here.")
        return queue

    async def _looked_at(self, request: Request, look: Callable[[View], dict[str, Any]]) -> dict[str, Any]:
        """What a look at the queue that is asked for has found."""
        queue = self._queue_of(request)

        def work() -> dict[str, Any]:
            with contextlib.closing(engines.view(queue)) as view:
                return look(view)

        return await run_in_threadpool(work)

    def _page(self, request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        said = self._said.get(request.query_params.get("done", ""), "")
        more = {"title": self._title, "may_act": self._acts, "word": word(self._token), "said": render.text(said)}
        return HTMLResponse(self._render(template, **more, **values), status)

    def _render(self, template: str, **values: Any) -> str:
        # A lone half of a surrogate pair is not a character that can be sent.
        return self._templates.get_template(template).render(**values).encode(errors="backslashreplace").decode()

    async def _wrong(self, request: Request, error: Exception) -> Response:
        """What cannot be shown, or done, says why."""
        if isinstance(error, HTTPException):
            status, text = error.status_code, error.detail
        elif isinstance(error, UsageError):
            status, text = 400, str(error)
        elif isinstance(error, PiperError):
            status, text = 409, str(error)
        else:
            status, text = 409, render.reason(error) if isinstance(error, OSError) else str(error)
        return self._page(request, "wrong.html", status, text=render.text(text))


def _query(request: Request, key: str) -> str | None:
    """What the address says; ids and reasons may hold bytes that are no UTF-8."""
    return parse_qs(request.url.query, errors="surrogateescape").get(key, [None])[0]


async def _form(request: Request) -> dict[str, list[Any]]:
    """The fields of a form. Raises HTTPException for one that is too large."""
    body = b""
    async for some in request.stream():
        body += some
        if len(body) > _FORM_MAX:
            raise HTTPException(413, "The form is too large.")
    try:
        return parse_qs(
            body.decode("ascii"), keep_blank_values=True, errors="surrogateescape", max_num_fields=_NAMED_MAX
        )
    except ValueError:
        raise HTTPException(400, "That form is not from this page.") from None


def _listed(given: str) -> Listed:
    """A message, as `pages.key` has it. Raises UsageError."""
    try:
        part, arrived, id = given.split("|")
        return Listed(part, os.fsdecode(unquote_to_bytes(id)), float(arrived))
    except ValueError:
        raise UsageError(f"{given!r:.80} names no message") from None


def serve(web: Web, host: str, port: int, announce: Callable[[int], None]) -> None:
    """Serve until SIGINT or SIGTERM. announce: called with the port when it listens. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    listening.listen(128)  # from now on: who opens the address at once waits until it is served

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            web.end_streams()
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        web.app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=5, lifespan="on"
    )
    announce(listening.getsockname()[1])
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(Server(config).serve(sockets=[listening]))
