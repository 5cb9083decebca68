"""The demo page: a picture or a sentence in, a mesh in a viewer, a turntable and downloads out; on loopback alone."""

from __future__ import annotations

import shutil
import threading
import time
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from orchestration.cli.painting import Paint, worded
from orchestration.errors import OrbitforgeError
from stages.errors import InputError

if TYPE_CHECKING:
    from stages.reconstruction.asset import Height, Reconstructor
    from stages.reconstruction.picture import Picture

HOME = Path(__file__).parent
KEPT = 16  # results on disk at once
LARGEST = 64 << 20  # bytes of a picture
FILES = ("asset.glb", "asset.zip", "asset.ply", "turntable.mp4", "picture.png")
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'self' blob: data: 'unsafe-inline'",  # nothing from elsewhere
}


class Demo:
    """One model for everyone who has the page open; it makes one asset at a time. `height` estimates elevations,
    `paint` draws sentences; where it is None, `lacking` says why."""

    def __init__(
        self,
        model: Reconstructor,
        folder: Path,
        *,
        height: Height | None = None,
        paint: Paint | None = None,
        lacking: str | None = None,
    ) -> None:
        self._model, self._folder, self._height, self._paint, self._lacking = model, folder, height, paint, lacking
        self._one_at_a_time = threading.Lock()
        self._made: list[str] = []

    def app(self) -> Starlette:
        """Only this machine's own names are answered to, against pages elsewhere that point a name of theirs here; what
        makes something wants types of content that such pages cannot send unasked."""
        routes = [
            Route("/", self._file("page.html")),
            Route("/viewer.js", self._file("viewer.js")),
            Route("/api/state", self._state),
            Route("/api/reconstruct", self._reconstruct, methods=["POST"]),
            Route("/api/generate", self._generate, methods=["POST"]),
            Route("/api/asset/{id}/{file}", self._asset),
        ]
        hosts = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
        return Starlette(routes=routes, middleware=[hosts])

    def _file(self, name: str) -> Callable[[Request], Response]:
        return lambda _: FileResponse(HOME / name, headers=_HEADERS)

    async def _state(self, _: Request) -> Response:
        config = self._model.config
        return JSONResponse(
            {
                "model": self._model.md5,
                "elevation": config.elevation,
                "estimates": self._height is not None,
                "lacking": self._lacking,
            }
        )

    async def _reconstruct(self, request: Request) -> Response:
        if request.headers.get("content-type") != "application/octet-stream":
            return JSONResponse({"error": "a picture is wanted, as application/octet-stream"}, 415)
        data = b""
        async for part in request.stream():
            data += part
            if len(data) > LARGEST:
                return JSONResponse({"error": f"at most {LARGEST >> 20} MB are taken; make the picture smaller"}, 413)
        name = request.query_params.get("name", "the picture")[:100]

        def picture() -> Picture:
            from stages.reconstruction.picture import read_picture

            return read_picture(data, name)

        return await self._answer(picture, request.query_params.get("elevation", ""), {})

    async def _generate(self, request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return JSONResponse({"error": "JSON is wanted"}, 415)
        try:
            told = await request.json()
            prompt, seed = str(told["prompt"]), int(told.get("seed", 0))
        except (ValueError, KeyError, TypeError, AttributeError):
            return JSONResponse({"error": "a prompt is wanted, and a seed that is a number"}, 400)
        paint = self._paint
        try:
            text = worded(prompt)
        except InputError as error:
            return JSONResponse({"error": str(error)}, 400)
        if paint is None:
            return JSONResponse({"error": self._lacking}, 400)
        more = {"prompt": text, "seed": seed}
        return await self._answer(lambda: paint(text, seed), str(told.get("elevation") or ""), more)

    async def _answer(self, picture: Callable[[], Picture], elevation: str, more: dict[str, Any]) -> Response:
        try:
            return JSONResponse(await run_in_threadpool(self._make, picture, self._told(elevation), more))
        except (OrbitforgeError, InputError, OSError) as error:
            return JSONResponse({"error": " ".join(str(error).split())}, 400)

    def _told(self, elevation: str) -> float | Height | None:
        if elevation == "auto":
            return self._height
        try:
            degrees = float(elevation) if elevation else None
        except ValueError:
            degrees = float("nan")
        if degrees is not None and not -89 <= degrees <= 89:
            raise InputError(f"elevation {elevation!r}: degrees from -89 to 89 are wanted")
        return degrees

    def _make(
        self, picture: Callable[[], Picture], height: float | Height | None, more: dict[str, Any]
    ) -> dict[str, Any]:
        with self._one_at_a_time:
            began = time.monotonic()
            seen = picture()
            made = self._model(seen, height).told(**more)
            id_ = uuid.uuid4().hex[:12]
            folder = self._folder / id_
            try:
                for suffix in ("glb", "ply"):
                    made.write(folder / f"asset.{suffix}")
                with zipfile.ZipFile(folder / "asset.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                    for file in made.write(folder / "obj" / "asset.obj"):
                        archive.write(file, file.name)
                made.write_turntable(folder / "turntable.mp4")
                seen.save(folder / "picture.png")
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            self._made.append(id_)
            while len(self._made) > KEPT:
                shutil.rmtree(self._folder / self._made.pop(0), ignore_errors=True)
            seconds = round(time.monotonic() - began, 1)
            return {"id": id_, "faces": len(made.mesh.faces), "seconds": seconds, **made.extras, "notes": made.notes}

    async def _asset(self, request: Request) -> Response:
        id_, file = request.path_params["id"], request.path_params["file"]
        if id_ not in self._made or file not in FILES:
            return JSONResponse({"error": "no such file; it may be too old, make it again"}, 404)
        shown = file.endswith((".mp4", ".png"))
        return FileResponse(self._folder / id_ / file, filename=None if shown else f"{id_}{Path(file).suffix}")
