"""What `orbitforge status --why` says, as a check of every asset: Dagster's own staleness is blind beyond 100 shards,
stops at the next asset, and does not look at configuration."""

from __future__ import annotations

from typing import Any

import dagster as dg

from orchestration import pipeline
from orchestration.lineage.exports.words import in_markdown
from orchestration.lineage.staleness import FRESH, AssetStatus, status
from orchestration.steps import Step

NAME = "fresh"
SHOWN = 20


def verdict(state: AssetStatus) -> dict[str, Any]:
    """Arguments of a check's result or evaluation."""
    rerun = state.rerun
    facts: dict[str, Any] = {"fresh": sum(s.status == FRESH for s in state.shards), "artifacts": len(state.shards)}
    if state.why:
        shown = [f"- {in_markdown(reason)}" for reason in state.why[:SHOWN]]
        more = [f"- and {len(state.why) - SHOWN} more"] if len(state.why) > SHOWN else []
        facts["why"] = dg.MetadataValue.md("\n".join(shown + more))
    if rerun.shards and rerun.seconds is not None and rerun.bytes is not None:
        facts |= {"seconds to make": round(rerun.seconds, 1), "bytes to make": round(rerun.bytes)}
    return {
        "passed": state.status == FRESH,
        "severity": dg.AssetCheckSeverity.WARN,
        "description": "; ".join(state.why[:3]) or "made of what stands now",
        "metadata": facts,
    }


def _check(step: Step) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=step.name,
        name=NAME,
        description="Made of the inputs, code and config that stand now. Asked after each run, and by the sensor "
        "`staleness` again and again.",
    )
    def check() -> dg.AssetCheckResult:
        states = {state.asset: state for state in status(pipeline.current())}
        return dg.AssetCheckResult(**verdict(states[step.name]))

    return check


def checks() -> list[dg.AssetChecksDefinition]:
    return [_check(step) for step in pipeline.current().steps]
