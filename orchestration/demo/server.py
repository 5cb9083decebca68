"""The demo page's server: Gradio on loopback, with nothing of it reachable that the page does not need."""

from __future__ import annotations

import os
from typing import Any

import gradio as gr
from fastapi import FastAPI
from gradio import processing_utils
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from orchestration.demo.guard import Guard
from orchestration.demo.maker import Maker
from orchestration.demo.page import CSS, THEME, page

LARGEST = 64 << 20  # bytes of a picture


def served(maker: Maker) -> FastAPI:
    """Only this machine's own names are answered to, against pages elsewhere that point a name of theirs here."""
    # where Gradio puts uploads, and all that it serves files from
    os.environ["GRADIO_TEMP_DIR"] = str(maker.folder)
    blocks = page(maker)
    # a mounted page is not launched, and so Gradio would take any path for one that was uploaded
    blocks.has_launched = True
    processing_utils.async_ssrf_protected_download = _nothing_fetched
    app = FastAPI(
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"]),
            Middleware(Guard, folder=maker.folder),
        ],
        openapi_url=None,
    )
    return gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        theme=THEME,
        css=CSS,
        max_file_size=LARGEST,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
    )


async def _nothing_fetched(url: str, **_: Any) -> str:
    """In the place of Gradio's download of files that an event names by URL."""
    raise gr.Error("nothing is fetched from elsewhere; upload the picture", print_exception=False)
