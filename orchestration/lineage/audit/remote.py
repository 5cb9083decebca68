"""Whether a DVC remote holds what `data.dvc` names."""

from __future__ import annotations

from collections.abc import Iterator

from orchestration.lineage.audit.findings import DVC, Finding
from orchestration.resources import store


def remote_findings(remote: str) -> Iterator[Finding]:
    """Raises OrbitforgeError for a remote that is not configured or does not answer."""
    recorded = store.recorded()
    lacking = store.lacking(remote, {*recorded.values(), *filter(None, [store.pointer()])})
    for path, md5 in recorded.items():
        if md5 in lacking:
            yield Finding(
                DVC,
                f"data/{path}",
                f"is not in the remote {remote!r} (md5 {md5})",
                f"push it with `dvc push -r {remote}`",
            )
    if (pointer := store.pointer()) in lacking:
        words = f"is not in the remote {remote!r}: nobody could pull"
        yield Finding(DVC, f"the list {pointer} of data.dvc", words, f"push it with `dvc push -r {remote}`")
