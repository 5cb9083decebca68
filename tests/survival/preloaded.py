"""What the toy command needs, imported once; it starts no thread, so that processes can be forked from it."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import dagster  # noqa: F401
import dvc.repo  # noqa: F401
import lightning.pytorch.loggers  # noqa: F401

import orchestration.cli.main
import orchestration.cli.run
import orchestration.publish  # noqa: F401
import tests.orchestration.world  # noqa: F401
