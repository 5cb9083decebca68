"""What lies in a project that others can write to: DVC's pointer and lists, the ledger, GLBs that name their maker."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

import polars as pl

from tests.hostile.case import MARK, RAN, Attack, Place
from tests.hostile.meshes import glb
from tests.hostile.presets import LAUGHS
from tests.hostile.tables import FOOTER, WHOLE, parquet


def _pointer(name: str, text: str | bytes) -> Attack:
    def make(place: Place) -> None:
        told = text.replace("MARK", str(place.root / RAN)) if isinstance(text, str) else text
        (place.project / "data.dvc").write_bytes(told if isinstance(told, bytes) else told.encode())

    return Attack(name, make)


def _listing(name: str, entries: Any) -> Attack:
    """A list of data/ in the remote, whose hash `data.dvc` names."""

    def make(place: Place) -> None:
        text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
        text = text.replace(b"ROOT", str(place.root).encode())
        digest = hashlib.md5(text).hexdigest()
        remote = place.project / "dvc-sample" / "files" / "md5"
        for md5, data in ((f"{digest}.dir", text), (BYTES, b"evil\n")):
            (remote / md5[:2]).mkdir(parents=True, exist_ok=True)
            (remote / md5[:2] / md5[2:]).write_bytes(data)
        told = f"outs:\n- md5: {digest}.dir\n  nfiles: 1\n  hash: md5\n  path: data\n"
        (place.project / "data.dvc").write_text(told)

    return Attack(name, make)


BYTES = hashlib.md5(b"evil\n").hexdigest()


def _at(*paths: str) -> list[dict[str, str]]:
    good = {"md5": BYTES, "relpath": "source/objects.parquet"}
    return [good, *({"md5": BYTES, "relpath": path} for path in paths)]


POINTERS = (
    _pointer("pointer of tags that run", "outs: !!python/object/apply:os.system ['touch MARK']\n"),
    _pointer("pointer of laughs", LAUGHS + "outs: *a11\n"),
    _pointer("pointer of 100,000 brackets", "outs: " + "[" * 100_000),
    _pointer("pointer to a file elsewhere", "outs:\n- md5: ../../../../../../etc/passwd\n  path: data\n"),
    _pointer(
        "pointer to a folder elsewhere", "outs:\n- md5: 0123456789abcdef0123456789abcdef.dir\n  path: ../../escaped\n"
    ),
    _pointer("pointer that is a list", "outs:\n- md5: [1, 2]\n  path: data\n"),
    _pointer("pointer without outs", "deps: []\n"),
    _pointer("pointer of a number", "5\n"),
    _pointer("pointer of bytes", b"\xff\xfe\x80"),
    _pointer("pointer with NUL", "outs:\n- md5: 'a\0b'\n"),
    _pointer(
        "pointer with a command",
        "outs:\n- md5: 0123456789abcdef0123456789abcdef.dir\n  path: data\n  cmd: touch MARK\n",
    ),
    _pointer("pointer of a day that is none", "outs:\n- md5: 2001-99-99\n"),
    _pointer("pointer of 5,000 digits", "outs:\n- md5: " + "9" * 5000 + "\n"),
    _listing("list with a file above", _at(f"source/../../../{MARK}.txt")),
    _listing("list with a file above data", _at(f"../{MARK}.txt")),
    _listing("list with an absolute name", _at(f"ROOT/{MARK}.txt")),
    _listing("list with an absolute name below source", _at(f"source//ROOT/{MARK}.txt")),
    _listing("list of numbers", [1, 2]),
    _listing("list that is a map", {"a": 1}),
    _listing("list of brackets", b"[" * 100_000),
    _listing("list of bytes", b"\xff\xfe\x80"),
    _listing("list of md5s that are paths", [{"md5": "../../../../etc/passwd", "relpath": "source/objects.parquet"}]),
    _listing("list of md5s that are numbers", [{"md5": 5, "relpath": "source/objects.parquet"}]),
    _listing("list of names that are numbers", [{"md5": BYTES, "relpath": 5}]),
    _listing("list without names", [{"md5": BYTES}]),
)


def _row(**changes: Any) -> dict[str, Any]:
    from orchestration.lineage.ledger import MADE, Row

    return Row(MADE, "nano", "lrm_finetuned", folder="nano/lrm_finetuned", version="0" * 32).record() | changes


def _told(**facts: Any) -> Any:
    """A row with the id that it should have."""

    def make() -> bytes:
        from orchestration.lineage.ledger import MADE, SCHEMA, Row

        row = Row(MADE, "nano", "lrm_finetuned", folder="nano/lrm_finetuned", version="0" * 32, **facts)
        return parquet(pl.DataFrame([row.record()], schema=SCHEMA))

    return make


def _ledger(name: str, data: Any, harmless: str = "") -> Attack:
    def make(place: Place) -> None:
        folder = place.project / "data" / "ledger"
        folder.mkdir(parents=True)
        (folder / "rows-0.parquet").write_bytes(data if isinstance(data, bytes) else data())

    return Attack(name, make, harmless)


def _rows(**changes: Any) -> Any:
    def make() -> bytes:
        from orchestration.lineage.ledger import SCHEMA

        return parquet(pl.DataFrame([_row(**changes)], schema=SCHEMA))

    return make


LEDGERS = (
    _ledger("rows of noise", bytes(range(256))),
    _ledger("rows with a footer of ff", WHOLE[: -8 - FOOTER] + b"\xff" * FOOTER + WHOLE[-8:]),
    _ledger("rows with a footer longer than the file", WHOLE[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1"),
    _ledger("rows cut in the middle", WHOLE[: len(WHOLE) // 2] + WHOLE[-8:]),
    _ledger("rows of another table", WHOLE),
    _ledger("rows of an unknown kind", _rows(kind="code")),
    _ledger("rows whose config is no json", _rows(config="{", metrics="[")),
    _ledger("rows whose config is brackets", _rows(config="[" * 100_000, metrics="[" * 100_000)),
    _ledger("rows whose metrics are a list", _rows(metrics="[1]")),
    _ledger("rows under an id that is not theirs", _rows(host="x")),
    _ledger(
        "rows of escape sequences",
        _told(host="\x1b]0;x\x07", reference="\x1b[31m", by="\x1b[2J", environment={"torch": "\x1b[31m"}),
        "told, without its signs",
    ),
    _ledger(
        "rows of markup",
        _told(host="[/bold]", reference="[/x]", by="[/y]", environment={"torch": "[/z]"}),
        "told as it is",
    ),
    _ledger("rows of a folder above", _rows(folder="../../../etc", version="x")),
)


def _asset(name: str, data: bytes) -> Attack:
    def make(place: Place) -> Any:
        path = place.given / "a.glb"
        path.write_bytes(data)
        return path

    return Attack(name, make)


GLBS = (
    _asset("glb of brackets", glb(b"[" * 100_000)),
    _asset("glb whose extras are a list", glb({"asset": {"extras": [1]}})),
    _asset("glb whose maker is a number", glb({"asset": {"extras": {"model_md5": 5}}})),
    _asset("glb whose maker is a map", glb({"asset": {"extras": {"model_md5": {"a": 1}}}})),
    _asset("glb whose maker is escape sequences", glb({"asset": {"extras": {"model_md5": "\x1b[2J\x1b]0;x\x07"}}})),
    _asset("glb whose maker is unknown", glb({"asset": {"extras": {"model_md5": "0" * 32}}})),
    _asset("glb of a chunk longer than itself", struct.pack("<4sIII4s", b"glTF", 2, 20, 2**31, b"JSON")),
    _asset("glb of nothing", b""),
    _asset("glb of bytes", b"glTF" + b"\xff" * 100),
    _asset("glb of numbers without end", glb(b'{"asset": {"extras": ' + b"9" * 5000 + b"}}")),
)
