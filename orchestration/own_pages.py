"""Servers on loopback answer the pages that they serve, and no page of anyone else.

A browser reaches loopback for any page that it shows: one that is open in another tab may send requests here, show this
page in a frame, or point a name of its own at 127.0.0.1 and then read the answers.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAMES = ("127.0.0.1", "localhost", "[::1]")
HEADERS = {
    "content-security-policy": "frame-ancestors 'none'; object-src 'none'; base-uri 'self'; form-action 'self'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class OwnPages:
    """Refuses requests under other names than this machine's (400) and those of a page of another origin (403).

    Browsers tell the latter by Origin or, of pictures and scripts that a page asks for, by Sec-Fetch-Site; opening the
    page from a link elsewhere is no such request. Programs send neither. `largest` limits the bytes of a request.
    """

    def __init__(self, app: ASGIApp, largest: int | None = None) -> None:
        self._app, self._largest = app, largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif refusal := self._refusal(Headers(scope=scope), scope):
            await refusal(scope, receive, headed)
        else:
            await self._app(scope, receive, headed)

    def _refusal(self, headers: Headers, scope: Scope) -> ASGIApp | None:
        host = headers.get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name not in NAMES:
            return PlainTextResponse("no such host here", 400)
        opened = scope.get("method") == "GET" and headers.get("sec-fetch-mode") == "navigate"
        foreign = headers.get("origin", f"http://{host}") != f"http://{host}"
        if foreign or (headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not opened):
            return PlainTextResponse("pages of other origins are not answered", 403)
        length = headers.get("content-length", "0")
        if self._largest is not None and scope.get("method") == "POST":
            if not length.isdecimal() or "content-length" not in headers:
                return PlainTextResponse("say how long it is", 411)
            if len(length) > 12 or int(length) > self._largest:
                return PlainTextResponse(f"at most {self._largest} bytes are read", 413)
        return None
