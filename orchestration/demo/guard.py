"""What of Gradio's server is answered, and to whom."""

from __future__ import annotations

from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FILES = "/gradio_api/file="
PATHS = {"/", "/theme.css", "/favicon.ico"} | {
    f"/gradio_api/{name}" for name in ("upload", "upload_progress", "queue/join", "queue/data")
}
FOLDERS = ("/assets/", "/static/", "/gradio_api/heartbeat/")
HEADERS = {
    "content-security-policy": (  # nothing from elsewhere, and no other page around this one
        "default-src 'self' blob: data: 'unsafe-inline'; object-src 'none'; base-uri 'self'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
}


class Guard:
    """Lets through what the page asks for, and of files what lies in `folder`. What else Gradio serves (a proxy, URLs
    that it fetches, calls that pass the queue by, histories kept elsewhere, a monitor) is a 404; what a page of another
    origin sends is a 403."""

    def __init__(self, app: ASGIApp, folder: Path) -> None:
        self._app, self._files = app, f"{FILES}{folder}/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        app = self._app if scope["type"] == "lifespan" else self._refusal(scope) or self._app
        await app(scope, receive, headed)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        headers, path = Headers(scope=scope), scope["path"]
        if headers.get("origin", f"http://{headers.get('host')}") != f"http://{headers.get('host')}":
            return PlainTextResponse("pages of other origins are not answered", 403)
        if path in PATHS or path.startswith((*FOLDERS, self._files)):
            return None
        return PlainTextResponse("no such page", 404)
