"""orbitforge label: sessions, their journal, the server, and the page in a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from orchestration import pipeline
from orchestration.errors import OrbitforgeError
from orchestration.labelling.corpus import Corpus
from orchestration.labelling.session import REASONS, SAVED_AFTER, Session
from stages.quality.judged import BAD, GOOD, UNDONE, UNSURE, read_judged, read_labels
from stages.shards import Sample, write_shard

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def clip(id_: str, split: str = "synthetic") -> Sample:
    rng = np.random.default_rng(len(id_) + int(id_[1:]))
    views = np.full((8, 32, 32, 4), 255, dtype=np.uint8)
    views[:, 8:24, 8:24, :3] = rng.integers(0, 200, (8, 1, 1, 3))
    meta = {"cameras": [[0.0] * 16] * 8, "split": split, "object": "chair", "creator": "Cy", "licence": "CC0-1.0"}
    return Sample(id_, views, meta | {"caption": f"a thing called {id_}"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a corpus of 30 clips, and two that teach nothing."""
    (tmp_path / "workspace.yaml").touch()
    for shard in range(2):
        folder = tmp_path / "data" / "tiny" / "synthetic_corpus" / f"p00{shard}"
        folder.mkdir(parents=True)
        clips = [clip(f"p{15 * shard + k:04d}") for k in range(15)]
        write_shard(folder / "clips.tar", [*clips, clip(f"p9{shard}", "held-out")])
    (tmp_path / "data" / "human_labels").mkdir()
    return tmp_path


def session(root: Path, who: str) -> Session:
    corpus = Corpus(root / "data" / "tiny", "tiny")
    return Session(corpus, root / "data" / "human_labels", root / ".work" / "labelling", who)


def verdicts(root: Path) -> list[tuple[str, str, str]]:
    return [(row["clip"][:5], row["verdict"], row["who"]) for row, _ in read_judged(root / "data" / "human_labels")]


def judge(ada: Session, verdict: str = GOOD, reason: str = "") -> str:
    chosen = ada.next(1)[0].clip
    ada.judge(chosen, verdict, reason)
    return chosen


def test_verdicts_become_a_file_of_their_own_with_the_clips(root: Path) -> None:
    ada = session(root, "Ada")
    first = judge(ada, BAD, "flat")
    assert not list((root / "data" / "human_labels").iterdir()), "open verdicts lie in the journal"
    for _ in range(SAVED_AFTER - 1):
        judge(ada)
    row = read_labels(root / "data" / "human_labels").filter(pl.col("clip") == first).to_dicts()[0]
    assert (row["verdict"], row["reason"], row["who"]) == (BAD, "flat", "Ada")
    assert re.fullmatch(r"tiny/synthetic_corpus\[p00\d\] [0-9a-f]{32}", row["source"])
    assert row["date"] > "2026"
    assert len(verdicts(root)) == SAVED_AFTER
    shutil.rmtree(root / "data" / "tiny")
    assert len(verdicts(root)) == SAVED_AFTER, "they outlive the corpus"


def test_undo_reaches_into_files_which_stay_as_they_are(root: Path) -> None:
    ada = session(root, "Ada")
    first, second = judge(ada), judge(ada)
    assert ada.undo() == second
    ada.save()
    kept = {path.name: path.read_bytes() for path in (root / "data" / "human_labels").iterdir()}
    assert ada.undo() == first
    after = {path.name: path.read_bytes() for path in (root / "data" / "human_labels").iterdir()}
    assert kept.items() < after.items()
    assert UNDONE in set(read_labels(root / "data" / "human_labels")["verdict"])
    assert verdicts(root) == []
    assert ada.undo() is None
    assert first in {each.clip for each in ada.next(30)}, "it can be judged again"


def test_a_killed_process_loses_no_verdict_and_half_a_line_is_told(root: Path) -> None:
    ada = session(root, "Ada")
    judge(ada, UNSURE)
    with ada._journal.path.open("a") as file:
        file.write('{"clip": "p00')
    ada._journal.close()  # as a kill does
    again = session(root, "Ada")
    assert again.state()["mine"] == {GOOD: 0, BAD: 0, UNSURE: 1}
    assert "half a verdict" in again.state()["faults"][0]
    judge(again)
    again.close()
    assert sorted(verdict for _, verdict, _ in verdicts(root)) == [GOOD, UNSURE]


def test_a_kill_between_file_and_journal_counts_nothing_twice(root: Path) -> None:
    ada = session(root, "Ada")
    judge(ada)
    journal = ada._journal.path.read_bytes()
    ada.save()
    ada._journal.path.write_bytes(journal)
    ada._journal.close()
    again = session(root, "Ada")
    assert again.save() is None
    assert len(read_labels(root / "data" / "human_labels")) == 1


def test_verdicts_on_clips_that_are_gone_are_told_and_kept_open(root: Path) -> None:
    ada = session(root, "Ada")
    lost = judge(ada)
    ada._journal.close()
    shard = next((root / "data" / "tiny" / "synthetic_corpus").glob("*"))
    for shard in (root / "data" / "tiny" / "synthetic_corpus").iterdir():
        write_shard(shard / "clips.tar", [clip(f"p{k:04d}") for k in range(5)])  # the next corpus has the same ids
    again = session(root, "Ada")
    kept = judge(again)
    again.save()
    assert [row["clip"] for row in read_labels(root / "data" / "human_labels").to_dicts()] == [kept]
    state = again.state()
    assert state["open"] == 1
    assert lost in state["faults"][0]


def test_a_corpus_that_is_made_anew_is_not_judged_unseen(root: Path) -> None:
    ada = session(root, "Ada")
    chosen = ada.next(1)[0].clip
    for shard in (root / "data" / "tiny" / "synthetic_corpus").iterdir():
        (shard / "clips.tar").unlink()
        write_shard(shard / "clips.tar", [clip("p0000")])
    with pytest.raises(OrbitforgeError, match="start `orbitforge label` again"):
        ada.clip(chosen)


@pytest.mark.parametrize(
    ("verdict", "reason", "told"), [("fine", "", "'fine'"), (BAD, "", "reason ''"), (GOOD, "ugly", "'ugly'")]
)
def test_what_is_no_verdict_is_refused(root: Path, verdict: str, reason: str, told: str) -> None:
    with pytest.raises(OrbitforgeError, match=told):
        judge(session(root, "Ada"), verdict, reason)


def test_names_are_given_and_held_by_one_process(root: Path) -> None:
    ada = session(root, "Ada")
    for who, told in (("Ada", "another process"), ("  ", "needs a name"), ("spoiled:frozen", "no name of a person")):
        with pytest.raises(OrbitforgeError, match=told):
            session(root, who)
    ada.close()
    session(root, "Ada").close()


def test_clips_that_teach_nothing_are_not_shown(root: Path) -> None:
    corpus = Corpus(root / "data" / "tiny", "tiny")
    assert len(corpus.candidates) == 30
    shutil.rmtree(root / "data" / "tiny" / "synthetic_corpus")
    with pytest.raises(OrbitforgeError, match="holds no clip to judge"):
        Corpus(root / "data" / "tiny", "tiny")


def test_a_new_label_makes_the_classifier_and_what_follows_stale_and_a_threshold_only_the_manifest() -> None:
    steps = [step for step in pipeline.current().steps if step.job == "chain"]

    def follow(changed: set[str]) -> list[str]:
        for step in steps:
            if changed & {*step.reads, *step.files}:
                changed.add(step.name)
        return [step.name for step in steps if step.name in changed]

    models = ["lrm_pretrained", "lrm_finetuned", "evaluation"]
    behind = ["quality_classifier", "quality_labels", "corpus_manifest", *models]
    assert sorted(follow({"human_labels"})) == sorted(behind)
    deciding = {step.name for step in steps if any("quality.verdict".startswith(section) for section in step.config)}
    assert deciding == {"corpus_manifest"}
    assert sorted(follow(deciding)) == sorted(behind[2:])


# the server


@pytest.fixture
def served(root: Path) -> Iterator[tuple[str, Path, subprocess.Popen[str]]]:
    command = [
        sys.executable,
        "-m",
        "orchestration.cli.main",
        "label",
        "--port",
        "0",
        "--no-browser",
        "--preset",
        "tiny",
    ]
    environment = {**os.environ, "ORBITFORGE_ROOT": str(root), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    server = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, cwd=root)
    assert server.stderr
    line = server.stderr.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found, line
    yield found[0], root, server
    server.kill()
    server.wait()


def post(url: str, told: dict[str, Any], **headers: str) -> tuple[int, dict[str, Any]]:
    given = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    request = urllib.request.Request(url, json.dumps(told).encode(), given, method="POST")
    for _ in range(50):
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            return error.code, json.loads(text) if text.startswith("{") else {"error": text}
        except urllib.error.URLError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


def test_the_server_answers_its_own_page_alone(served: tuple[str, Path, Any]) -> None:
    url, _, _ = served
    status, told = post(f"{url}/api/start", {"who": "Ada"})
    assert (status, told["who"], len(told["next"])) == (200, "Ada", 4)
    assert "score" not in told["next"][0], "who sees the score judges the score"
    assert post(f"{url}/api/start", {"who": "Ada"}, host="evil.example")[0] == 400
    assert post(f"{url}/api/start", {"who": "Ada"}, content_type="text/plain")[0] == 415
    status, told = post(f"{url}/api/judge", {"who": "Ada", "clip": "nothing", "verdict": GOOD})
    assert (status, told["error"][:17]) == (400, "no clip 'nothing'")
    assert post(f"{url}/api/start", {"who": ""})[1]["error"].startswith("a judge needs a name")
    listening = subprocess.run(["ss", "-ltn"], capture_output=True, text=True).stdout if shutil.which("ss") else ""
    assert f"0.0.0.0:{url.rpartition(':')[2]}" not in listening


def test_two_people_label_in_a_browser(served: tuple[str, Path, subprocess.Popen[str]]) -> None:
    if not CHROMIUM:
        pytest.skip("no chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    url, root, server = served
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        errors: list[str] = []

        def open_page(who: str) -> Any:
            page = browser.new_context().new_page()
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(url)
            page.fill("#name", who)
            page.press("#name", "Enter")
            page.wait_for_selector('body:not([data-clip=""])[data-clip]')
            return page

        def shown(page: Any) -> str:
            return page.evaluate("document.body.dataset.clip")

        def press(page: Any, key: str) -> str:
            now = shown(page)
            page.keyboard.press(key)
            page.wait_for_function("now => document.body.dataset.clip && document.body.dataset.clip !== now", arg=now)
            return now

        ada = open_page("Ada")
        assert "one height" in ada.inner_text("main"), "the criterion stands on the page"
        assert ada.locator("#sheet .view").count() == 8
        assert ada.inner_text("#caption").startswith("a thing called")
        places = {ada.evaluate("document.getElementById('orbit').style.backgroundPosition") for _ in range(20)}
        ada.wait_for_timeout(400)
        places.add(ada.evaluate("document.getElementById('orbit').style.backgroundPosition"))
        assert len(places) > 1, "the orbit turns"

        said = [(press(ada, "g"), GOOD, ""), (press(ada, "u"), UNSURE, ""), (press(ada, "6"), BAD, "blurred back")]
        before = shown(ada)
        ada.keyboard.press("b")
        assert "reason" in ada.inner_text("#error")
        assert shown(ada) == before, "bad alone is no verdict yet"
        said.append((press(ada, "1"), BAD, "inconsistent"))
        gone = press(ada, "g")
        assert "5 judged (2 good, 2 bad, 1 unsure)" in ada.inner_text("#counts")
        press(ada, "z")
        assert "4 judged (1 good, 2 bad, 1 unsure)" in ada.inner_text("#counts")
        ada.keyboard.press("s")
        ada.wait_for_function("document.getElementById('saved').textContent.startsWith('saved as labels-')")
        labels = read_labels(root / "data" / "human_labels")
        assert sorted(labels.select("clip", "verdict", "reason").rows()) == sorted(said)
        assert gone not in set(labels["clip"])

        bob = open_page("Bob")
        judged = {clip for clip, _, _ in said}
        agreed = 0
        for _ in range(24):
            mine = shown(bob)
            verdict = {c: v for c, v, _ in said}.get(mine, GOOD)
            agreed += mine in judged
            press(bob, {GOOD: "g", UNSURE: "u", BAD: "2"}[verdict])
            if agreed == len(judged):
                break
        assert agreed == len(judged), "everyone gets second opinions to give"
        assert re.search(r"Ada\s+4\s+100 %\s+1\.00", bob.inner_text("#agreement"))
        press(ada, "u")
        assert re.search(r"Bob\s+\d+\s+\d+ %", ada.inner_text("#agreement"))
        assert errors == []
        browser.close()
    server.send_signal(signal.SIGINT)
    assert server.wait(20) == 0
    labels = read_labels(root / "data" / "human_labels")
    assert set(labels["who"]) == {"Ada", "Bob"}, "what was open is saved at the end"
    assert len(labels.filter(pl.col("who") == "Ada")) == 5
    assert set(labels["reason"]) <= {"", *REASONS}
