"""`python -m tests.hostile [DOOR...]`: what became of every attack, a line a door, and of each that broke something."""

from __future__ import annotations

import sys
from statistics import median

from tests.hostile.doors import doors
from tests.hostile.runner import Runner


def main() -> None:
    verbose = "-v" in sys.argv
    named = [name for name in sys.argv[1:] if name != "-v"] or list(doors())
    total = held = 0
    print(f"{'door':20} {'files':>5} {'quarantined':>11} {'error':>5} {'harmless':>8} {'broken':>6}"
          f" {'median s':>8} {'most s':>6} {'most MB':>7}")  # fmt: skip
    with Runner() as runner:
        for door in named:
            try:
                results = runner.run(door)
            except AssertionError as error:
                print(f"{door}: {error}", flush=True)
                total += 1
                continue
            kinds = [result.outcome.partition(":")[0] for result in results]
            good = sum(result.held for result in results)
            total, held = total + len(results), held + good
            times = [result.seconds for result in results]
            print(f"{door:20} {len(results):5} {kinds.count('quarantined'):11} {kinds.count('error'):5}"
                  f" {kinds.count('harmless'):8} {len(results) - good:6} {median(times):8.2f} {max(times):6.1f}"
                  f" {max(result.megabytes for result in results):7.0f}", flush=True)  # fmt: skip
            for result in results:
                if verbose or not result.held:
                    print(f"    {result.name}: {result.outcome} ({result.seconds:.1f} s, {result.megabytes:.0f} MB)")
    print(f"{held} of {total} held")
    sys.exit(held < total)


if __name__ == "__main__":
    main()
