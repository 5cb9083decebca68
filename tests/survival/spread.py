"""The whole chain and its branches over two Ray nodes, one of which is killed again and again; bytes as on one machine.

    python -m tests.survival.spread [--folder EMPTY] [--select chain,flexiview,study]

Says which shards ran on which node, which were lost and made again, what that took, and whether all hashes are equal.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from tests.survival.clusters import Nodes, two_nodes
from tests.survival.store import CHECKOUT, Store

PRESET = "spread.yaml"
COMMANDS = {"chain": ["run"], "flexiview": ["flexiview"], "study": ["scaling"]}
SHARDS = {"object_shards": 4, "prompt_shards": 4, "prompts_per_shard": 3}
SPREAD = ("rendered_views", "synthetic_corpus", "quality_labels", "ring_views", "candidate_views", "curated_views")
SPREAD += ("scaling_points",)

VERSIONS = """
import json
from orchestration import pipeline
from orchestration.lineage.staleness import status
found = {}
for state in status(pipeline.current()):
    for shard in state.shards:
        found[state.asset if shard.shard is None else f"{state.asset}[{shard.shard}]"] = [shard.status, shard.version]
print(json.dumps(found))
"""
TOLD = """
import json
from orchestration.home import open_instance
with open_instance() as instance:
    runs = reversed(instance.get_runs())
    logs = [entry for run in runs for entry in instance.all_logs(run.run_id)]
print(json.dumps([[entry.timestamp, entry.user_message] for entry in logs]))
"""
_SHARD, _NODE = re.compile(r"^(\w+)\[([^\]]+)\]: (.*)$", re.DOTALL), re.compile(r"on .*, Ray node (\w+)")


def project(folder: Path, shards: dict[str, int] | None = None) -> Store:
    """A fresh clone with a nano preset of more shards, called spread.yaml."""
    store = Store.clone(folder, PRESET)
    preset = yaml.safe_load((CHECKOUT / "orchestration/presets/nano.yaml").read_text())
    preset["source"] |= shards or SHARDS
    (folder / PRESET).write_text(yaml.safe_dump(preset))
    return store


def asked(store: Store, code: str) -> Any:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=store.root, env=store.environment(), capture_output=True, check=True)
    return json.loads(done.stdout)


def make(store: Store, parts: Sequence[str], **more: str) -> float:
    began = time.monotonic()
    for part in parts:
        command = [sys.executable, "-m", "orchestration.cli.main", *COMMANDS[part]]
        if code := subprocess.call(command, cwd=store.root, env=store.environment(more), stdout=sys.stderr):
            raise SystemExit(f"{part} in {store.root} ended with {code}")
    return time.monotonic() - began


def make_and_kill(store: Store, parts: Sequence[str], nodes: Nodes, assets: Sequence[str]) -> tuple[float, list[str]]:
    """make() over the nodes, of which the second is killed once while each of `assets` is made, and another one comes.

    Returns the seconds, and the assets in whose making a node was killed.
    """
    left, killed = list(assets), list[str]()
    with ThreadPoolExecutor(1) as pool:  # Ray starts nodes in the main thread alone
        making = pool.submit(make, store, parts, ORBITFORGE_ENGINE="ray", RAY_ADDRESS=nodes.address)
        while not making.done():
            time.sleep(0.2)
            # the scratch folder of a shard, with its inputs linked, stands while it is made
            busy = (name for name in left if len(list((store.root / ".work" / name).glob("*/*/output"))) > 1)
            if asset := next(busy, None):
                time.sleep(random.uniform(0, 3))
                nodes.kill_second()
                left.remove(asset)
                killed.append(asset)
                nodes.add()
        return making.result(), killed


def shards_on_nodes(logs: list[list[Any]]) -> dict[str, dict[str, Any]]:
    """Asset -> how many tries of its shards each node had, which were lost, and the seconds that lost tries took."""
    found: dict[str, dict[str, Any]] = {}
    began: dict[str, tuple[str, float]] = {}
    for at, message in logs:
        if not (told := _SHARD.match(message or "")):
            continue
        asset, shard, words = told.groups()
        entry = found.setdefault(asset, {"nodes": Counter(), "lost": [], "seconds": 0.0})
        if node := _NODE.match(words):
            entry["nodes"][node[1]] += 1
            began[f"{asset}[{shard}]"] = node[1], at
        elif "will be tried again" in words:
            entry["lost"].append(shard)
            _, since = began.get(f"{asset}[{shard}]", ("", at))
            entry["seconds"] += at - since
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="an empty folder for the two projects; by default a temporary one")
    parser.add_argument("--select", default="chain,flexiview,study")
    parser.add_argument("--beside", type=Path, help="a finished project of the same code and preset, made locally")
    arguments = parser.parse_args()
    parts = arguments.select.split(",")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        alone = Store(arguments.beside, PRESET) if arguments.beside else project(folder / "alone")
        spread = project(folder / "spread")
        local = None if arguments.beside else make(alone, parts)
        with two_nodes() as nodes:
            seconds, killed = make_and_kill(spread, parts, nodes, SPREAD)
        one, two = asked(alone, VERSIONS), asked(spread, VERSIONS)
        told = shards_on_nodes(asked(spread, TOLD))
    differ = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
    for asset, entry in told.items():
        tries = ", ".join(f"{node} {count}" for node, count in entry["nodes"].items())
        lost = "a node was killed" if asset in killed else "no node was killed"
        print(f"{asset}: tries a node: {tries}; {lost}; lost and made again: {entry['lost'] or 'none'}", end="")
        print(f" ({entry['seconds']:.1f} s of work)" if entry["lost"] else "")
    print(f"local {local and f'{local:.0f} s'}, two nodes {seconds:.0f} s")
    print(f"{len(one)} artifacts, {len(one) - len(differ)} alike", *(f"{n}: {one.get(n)} {two.get(n)}" for n in differ))
    return int(bool(differ) or any(state[0] != "fresh" for state in two.values()))


if __name__ == "__main__":
    raise SystemExit(main())
