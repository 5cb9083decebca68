"""One person who judges clips: what comes next, verdicts, undo, and how well judges agree."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from orchestration.errors import OrbitforgeError
from orchestration.labelling.corpus import Corpus, judged_before
from orchestration.labelling.journal import Journal, open_verdicts
from orchestration.lineage.ledger import after
from stages.quality.agreement import kappas, last_verdicts
from stages.quality.judged import BAD, GOOD, SCHEMA, UNDONE, UNSURE, Fault, add_judged, read_labels
from stages.quality.sampling import Proposal, proposals
from stages.shards import Sample

REASONS = ("inconsistent", "flat", "not an object", "cropped", "text", "blurred back")
"""Why a clip is bad, in the order of the keys 1 to 6."""
SAVED_AFTER = 20
"""Verdicts, then they become a label file of their own; also when the person says so, and when the server ends."""


class Session:
    """Judges clips of `corpus` as `who`; verdicts go through a journal into immutable files below `labels`."""

    def __init__(self, corpus: Corpus, labels: Path, scratch: Path, who: str) -> None:
        """Raises OrbitforgeError for an empty name, and when another process labels under it."""
        if not (who := " ".join(who.split())):
            raise OrbitforgeError("a judge needs a name; it stands beside each verdict")
        if who.startswith("spoiled:"):
            raise OrbitforgeError(f"{who!r} is no name of a person: so are clips marked that were spoiled on purpose")
        self.who, self._corpus, self._labels, self._scratch = who, corpus, labels, scratch
        scratch.mkdir(parents=True, exist_ok=True)
        self._names, self._table = (), pl.DataFrame(schema=SCHEMA)
        self._journal = Journal(scratch, who)
        self.faults: list[Fault] = [Fault(self._journal.path.name, torn) for torn in self._journal.torn]

    def next(self, count: int) -> list[Proposal]:
        """The next clips to judge, best first; one that cannot be read is told and left out."""
        found: list[Proposal] = []
        for proposal in proposals(self._corpus.candidates, self._all(), self.who):
            if len(found) == count:
                break
            if self._readable(proposal.clip):
                found.append(proposal)
        return found

    def clip(self, clip: str) -> Sample:
        """Raises OrbitforgeError for a clip that is nowhere any more."""
        if clip in self._corpus:
            return self._corpus.read(clip)
        rows = self._files().filter(pl.col("clip") == clip)
        if rows.is_empty():
            raise OrbitforgeError(f"no clip {clip!r}; it is neither in the corpus nor among the judged ones")
        return judged_before(self._labels, rows["tar"][0], clip)

    def judge(self, clip: str, verdict: str, reason: str) -> None:
        """Raises OrbitforgeError for an unknown verdict, reason or clip, and for a bad clip without a reason."""
        if verdict not in (GOOD, BAD, UNSURE):
            raise OrbitforgeError(f"verdict {verdict!r}: should be {GOOD}, {BAD} or {UNSURE}")
        if (verdict == BAD and reason not in REASONS) or (reason and reason not in REASONS):
            raise OrbitforgeError(f"reason {reason!r}: should be one of {', '.join(REASONS)}")
        self._write(clip, verdict, reason)
        if len(self._journal.rows) % SAVED_AFTER == 0:
            self.save()

    def undo(self) -> str | None:
        """Take back the last verdict of this person, also one in a file: then a row says that it is undone."""
        if row := self._journal.pop():
            return row["clip"]
        mine = last_verdicts(self._files()).filter(pl.col("who") == self.who).sort("date")
        if mine.is_empty():
            return None
        clip = mine["clip"][-1]
        self._write(clip, UNDONE, "")
        self.save()
        return clip

    def save(self) -> Path | None:
        """Make the open verdicts a label file, with copies of the clips; its path, or None where nothing is open.

        Verdicts on clips that cannot be read any more are told and stay open.
        """
        # a process that was killed after the file and before the journal was cleared wrote these already
        there = self._files().select("clip", "who", "date").rows()
        rows = [row for row in self._journal.rows if (row["clip"], row["who"], row["date"]) not in set(there)]
        kept, written = set(self._files()["clip"]), None
        usable = {clip for clip in {row["clip"] for row in rows} if clip in kept or self._readable(clip)}
        clips = [self.clip(clip) for clip in sorted(usable - kept)]
        if now := [row for row in rows if row["clip"] in usable]:
            written = add_judged(self._labels, clips, pl.DataFrame(now), scratch=self._scratch)
        self._journal.keep([row for row in rows if row["clip"] not in usable])
        return written

    def state(self) -> dict[str, Any]:
        """Progress and agreement, for the page."""
        labels = self._all()
        last = last_verdicts(labels)
        mine = Counter(last.filter(pl.col("who") == self.who)["verdict"])
        pairs = kappas(labels).filter((pl.col("a") == self.who) | (pl.col("b") == self.who))
        return {
            "who": self.who,
            "mine": {verdict: mine[verdict] for verdict in (GOOD, BAD, UNSURE)},
            "all": last["clip"].n_unique(),
            "left": self._corpus.candidates.filter(~pl.col("clip").is_in(last["clip"].unique().to_list())).height,
            "open": len(self._journal.rows),
            "agreement": [
                {
                    "with": row["b"] if row["a"] == self.who else row["a"],
                    **{k: row[k] for k in ("clips", "alike", "kappa")},
                }
                for row in pairs.to_dicts()
            ],
            "faults": [f"{fault.id}: {fault.reason}" for fault in self.faults],
        }

    def close(self) -> None:
        """Save what is open."""
        try:
            self.save()
        finally:
            self._journal.close()

    def _write(self, clip: str, verdict: str, reason: str) -> None:
        source = self._corpus.source(clip) if clip in self._corpus else self._known_source(clip)
        # microseconds, and after all others: two verdicts on one clip have an order, whatever the clock does
        date = after(str(self._all()["date"].max() or ""))
        row = {"clip": clip, "verdict": verdict, "reason": reason, "who": self.who, "date": date, "source": source}
        self._journal.add(row)

    def _readable(self, clip: str) -> bool:
        try:
            self.clip(clip)
        except OrbitforgeError as error:
            fault = Fault(clip, str(error))
            self.faults += [] if fault in self.faults else [fault]
            return False
        return True

    def _known_source(self, clip: str) -> str:
        rows = self._files().filter(pl.col("clip") == clip)
        if rows.is_empty():
            raise OrbitforgeError(f"no clip {clip!r}; it is neither in the corpus nor among the judged ones")
        return rows["source"][0]

    def _files(self) -> pl.DataFrame:
        """What stands in label files; these never change, so that their names tell whether there is news."""
        names = tuple(sorted(path.name for path in self._labels.glob("labels*.parquet")))
        if names != self._names:
            found: list[Fault] = []
            self._table = read_labels(self._labels, found) if names else pl.DataFrame(schema=SCHEMA)
            self.faults += [fault for fault in found if fault not in self.faults]
            self._names = names
        return self._table

    def _all(self) -> pl.DataFrame:
        """With the open verdicts of everyone, also of other processes."""
        return pl.concat([self._files(), pl.DataFrame(open_verdicts(self._scratch), schema=SCHEMA)])
