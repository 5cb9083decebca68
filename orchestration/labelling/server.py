"""The labelling page, on loopback alone."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from orchestration.errors import OrbitforgeError
from orchestration.labelling.corpus import Corpus
from orchestration.labelling.session import REASONS, Session
from orchestration.own_pages import OwnPages
from stages.documents import read_json
from stages.shards import composite

PAGE = Path(__file__).parent / "page.html"
LARGEST = 64 << 10
"""Bytes of a request."""
AHEAD = 4
"""Clips that the page fetches before they are needed."""

Answer = Callable[[Session, dict[str, Any]], dict[str, Any]]


class Labelling:
    """The sessions of everyone who has this server's page open; names are told by the pages."""

    def __init__(self, corpus: Corpus, labels: Path, scratch: Path, *, by: str | None) -> None:
        self._corpus, self._labels, self._scratch, self._by = corpus, labels, scratch, by
        self._sessions: dict[str, Session] = {}
        if by:
            self.session(by)

    def session(self, who: str) -> Session:
        who = " ".join(who.split())
        if who not in self._sessions:
            self._sessions[who] = Session(self._corpus, self._labels, self._scratch, who)
        return self._sessions[who]

    def app(self) -> Starlette:
        """The page and what it asks for, see `OwnPages`; what changes something wants JSON, which pages of others
        cannot send unasked."""
        routes = [
            Route("/", lambda _: FileResponse(PAGE, headers={"cache-control": "no-store"})),
            Route("/api/clip/{clip}.png", self._strip),
            Route("/api/start", self._post(lambda session, _: self._told(session)), methods=["POST"]),
            Route("/api/judge", self._post(self._judge), methods=["POST"]),
            Route("/api/undo", self._post(self._undo), methods=["POST"]),
            Route("/api/save", self._post(self._save), methods=["POST"]),
        ]
        own = Middleware(OwnPages, largest=LARGEST)
        return Starlette(routes=routes, middleware=[own], lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        self.close()

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()
        self._sessions = {}

    # All below runs on the one thread of the server: verdicts come one after another.

    def _judge(self, session: Session, told: dict[str, Any]) -> dict[str, Any]:
        session.judge(str(told.get("clip")), str(told.get("verdict")), str(told.get("reason") or ""))
        return self._told(session)

    def _undo(self, session: Session, _: dict[str, Any]) -> dict[str, Any]:
        return {"undone": session.undo(), **self._told(session)}

    def _save(self, session: Session, _: dict[str, Any]) -> dict[str, Any]:
        written = session.save()
        return {"saved": written.name if written else None, **self._told(session)}

    def _told(self, session: Session) -> dict[str, Any]:
        ahead = []
        for proposal in session.next(AHEAD):
            meta = session.clip(proposal.clip)
            ahead.append({**vars(proposal), "views": len(meta.views), "caption": meta.meta.get("caption") or ""})
        return {**session.state(), "next": ahead, "reasons": REASONS, "by": self._by}

    def _post(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            if request.headers.get("content-type", "").partition(";")[0] != "application/json":
                return JSONResponse({"error": "JSON is wanted"}, 415)
            try:
                told = read_json(await request.body())
                return JSONResponse(answer(self.session(str(told.get("who") or self._by or "")), told))
            except (OrbitforgeError, ValueError, AttributeError, OSError) as error:
                return JSONResponse({"error": " ".join(str(error).split())}, 400)

        return endpoint

    async def _strip(self, request: Request) -> Response:
        """The views of a clip side by side, on white."""
        try:
            views = composite(self.session(request.query_params.get("who", "")).clip(request.path_params["clip"]).views)
        except (OrbitforgeError, ValueError) as error:
            return JSONResponse({"error": str(error)}, 404)
        strip = np.rint(np.concatenate(list(views), axis=2) * 255).astype(np.uint8).transpose(1, 2, 0)
        buffer = io.BytesIO()
        Image.fromarray(strip).save(buffer, "PNG", compress_level=1)
        return Response(buffer.getvalue(), media_type="image/png")
