"""Functions that a sandbox has to survive; the file's name says what it does."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

import numpy as np

from stages.rendering.config import RenderingConfig
from stages.rendering.loader import Loaded, load


class UnpicklableError(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def behave(how: str) -> str:
    if how == "sleep":
        time.sleep(600)
    if how == "compute":
        while True:
            pass
    if how == "allocate":
        blocks = []
        while True:
            blocks.append(np.empty(50_000_000, np.uint8))
    if how == "crash":
        ctypes.string_at(0)
    if how == "be killed":
        os.kill(os.getpid(), 9)
    if how == "exit":
        os._exit(3)
    if how == "raise":
        raise KeyError("no such thing")
    if how == "raise unpicklable":
        raise UnpicklableError(1, 2)
    return f"{how} in {os.getpid()}"


def never(*_: object) -> None:
    raise AssertionError("it should not be called")


def load_or_not(path: Path, config: RenderingConfig, rotation: list[float] | None = None) -> Loaded:
    behave(path.stem)
    return load(path, config, rotation)
