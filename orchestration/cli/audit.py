"""`orbitforge audit`: is everything what the ledger says?"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape

from orchestration import pipeline
from orchestration.cli.progress import Bars
from orchestration.lineage.audit.remote import remote_findings
from orchestration.lineage.audit.whole import Audit, audit


def audit_command(*, workers: int | None, remote: str | None, as_json: bool) -> None:
    """Print what was found and exit with 1 if anything is broken; what the next run mends is told and does no harm."""
    console = Console(stderr=True)
    read = [0, 0]  # bytes so far, of how many
    with Bars(console) as bars:
        tell = bars.of("reading")
        tell()

        def begin(total: int) -> None:
            read[1] = total

        def report(size: int) -> None:
            read[0] += size
            tell({"step": read[0], "of": read[1], "message": f"{read[0] / 1e6:,.0f} of {read[1] / 1e6:,.0f} MB"})

        found = audit(pipeline.sources_only(), workers=workers, begin=begin, report=report)
        if remote:
            bars.of(f"asking {remote}")()
            found = found.with_more(remote_findings(remote))
    if as_json:
        print(json.dumps(_as_json(found), indent=2))
    else:
        _print(Console(), found)
    if found.broken:
        sys.exit(1)


def _as_json(found: Audit) -> dict[str, object]:
    """`{"intact", "files", "bytes", "absent", "findings": [{"where", "what", "found", "way_out", "broken"}]}`."""
    return {
        "intact": not found.broken,
        "files": found.files,
        "bytes": found.bytes,
        "absent": list(found.absent),
        "findings": [asdict(finding) for finding in found.findings],
    }


def _print(console: Console, found: Audit) -> None:
    for finding in found.findings:
        mark, style = ("broken", "red") if finding.broken else ("behind", "yellow")
        console.print(f"[{style}]{mark}[/]  {finding.where}  {escape(str(finding))}", highlight=False, soft_wrap=True)
    if found.absent:
        console.print(f"not here, so not looked at: {len(found.absent)} artifacts, first {found.absent[0]}")
    read = f"{found.files} files, {found.bytes / 1e6:,.1f} MB read"
    if found.broken:
        console.print(f"{len(found.broken)} broken, {read}", style="bold red")
    else:
        console.print(f"intact: {read}", style="bold green")
