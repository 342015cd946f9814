"""Who may see and do what on the page.

- Everybody needs the token: the address that is printed at the start has it, and it becomes a cookie that no script can
  read and no other site's page sends along. Compared in constant time.
- The Host header has to be a name that we listen on: else a page of another host could have its name lead here (DNS
  rebinding).
- What changes something is sent by POST, from a page of ours: its Origin is ours, and the form has a word that follows
  from the token.
- The page may load nothing but its own style sheet and script, be in no frame, and is kept nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from piperkit.errors import ConfigError

COOKIE = "piperctl-token"
_LEAST = 16  #: characters of a token
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def new_token() -> str:
    """One that nobody guesses."""
    return secrets.token_urlsafe(24)


def token_of(path: Path) -> str:
    """The token in a file, which is made where it is not there. Raises ConfigError for one that others can read."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigError(f"the token's file {path} cannot be made: {error.strerror}") from error
    else:
        with open(fd, "w", encoding="ascii") as file:
            file.write(new_token() + "\n")
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(f"the token's file {path} can be read by others: chmod 600 {path}")
        found = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"the token's file {path} cannot be read: {error}") from error
    if len(found) < _LEAST or not found.isascii() or not found.isprintable():
        raise ConfigError(f"the token's file {path} must hold {_LEAST} characters or more, of ASCII, on one line")
    return found


class Guard:
    """Stands before the pages.

    hosts: what a Host header may say, with the port. acts: whether anything may be changed.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: Collection[str], acts: bool) -> None:
        self._app = app
        self._token = token
        self._hosts = hosts
        self._acts = acts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        answer = self._refusal(Request(scope))
        await (answer or self._app)(scope, receive, with_headers)

    def _refusal(self, request: Request) -> Response | None:
        """What is answered instead, if anything."""
        if request.headers.get("host", "") not in self._hosts:
            return PlainTextResponse("This is not the address of this page.\n", 421)
        given = request.query_params.get("token")
        if given is not None and request.method == "GET" and request.url.path == "/":
            if not _same(given, self._token):
                return PlainTextResponse("That is not the token.\n", 403)
            answer = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
            return answer
        if not _same(request.cookies.get(COOKIE, ""), self._token):
            return PlainTextResponse("Open the address that piperctl web has printed: it has the token.\n", 401)
        if request.method in ("GET", "HEAD"):
            return None
        if not self._acts:
            return PlainTextResponse("This page changes nothing: it was started without --acts.\n", 403)
        origin = urlsplit(request.headers.get("origin", ""))
        if origin.netloc != request.headers["host"] or origin.scheme not in ("http", "https"):
            return PlainTextResponse("That came from another page.\n", 403)
        return None


def word(token: str) -> str:
    """What a form of ours has, so that only a page that was shown to its owner can send it."""
    return hmac.new(token.encode(), b"acts", hashlib.sha256).hexdigest()


def is_word(given: object, token: str) -> bool:
    return isinstance(given, str) and _same(given, word(token))


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(errors="surrogateescape"), other.encode())
