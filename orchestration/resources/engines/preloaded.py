"""What workers that run models share: imported once by the process that they are forked from.

These imports take half a gigabyte and seconds of CPU a process. They start no threads, so a fork is safe; polars does,
and is left to each worker. Nothing here may run an operation of torch, whose threads would not survive either.
"""

import gc

gc.disable()

import numba  # noqa: E402, F401  # pyright: ignore[reportUnusedImport]
import scipy.spatial  # noqa: E402, F401  # pyright: ignore[reportUnusedImport]
import trimesh  # noqa: E402, F401  # pyright: ignore[reportUnusedImport]

import models.svd  # noqa: E402  # pyright: ignore[reportUnusedImport]
import models.wan  # noqa: E402, F401  # pyright: ignore[reportUnusedImport]

gc.collect()
gc.freeze()  # the collector would write to every page that it looks at, and unshare it
gc.enable()
