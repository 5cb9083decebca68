"""Loading and saving pipelines without what the libraries say meanwhile."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Without the bars of diffusers and transformers, their advice to those who write pipelines, and the remark that
    they expected another autoencoder."""
    from diffusers.utils import logging as diffusers
    from transformers.utils import logging as transformers

    told = diffusers.get_verbosity()
    diffusers.set_verbosity_error()
    for library in (diffusers, transformers):
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        diffusers.set_verbosity(told)
        for library in (diffusers, transformers):
            library.enable_progress_bar()
