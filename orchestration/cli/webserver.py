"""Dagster's web server for this machine's own pages alone: by itself it answers whoever asks, and starts runs for them.

`python -m orchestration.cli.webserver` takes what `dagster-webserver` takes.
"""

from __future__ import annotations

from dagster_webserver.cli import main
from dagster_webserver.webserver import DagsterWebserver
from starlette.middleware import Middleware

from orchestration.own_pages import OwnPages

_of_dagster = DagsterWebserver.build_middleware


def build_middleware(self: DagsterWebserver) -> list[Middleware]:
    return [Middleware(OwnPages), *_of_dagster(self)]


if __name__ == "__main__":
    DagsterWebserver.build_middleware = build_middleware
    main()
