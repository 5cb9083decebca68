"""Tables of objects, prompts and clips: formulas, control characters, types that lie, Parquet that claims the moon."""

from __future__ import annotations

import gzip
import io
import json
import struct
from typing import Any

import polars as pl

from tests.hostile.case import Attack, written

ESCAPE, BIDI = "\x1b]0;owned\x07\x1b[2J", "\u202eevil\u2066"


def parquet(table: pl.DataFrame, **told: Any) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer, **told)
    return buffer.getvalue()


def csv(*rows: dict[str, str]) -> bytes:
    return pl.DataFrame(list(rows)).write_csv().encode()


GOOD = pl.DataFrame({"text": [f"a red chair with {number} legs" for number in range(100)]})
WHOLE = parquet(GOOD)
FOOTER = struct.unpack("<I", WHOLE[-8:-4])[0]


def _flipped(every: int, value: int) -> bytes:
    """The footer with bytes changed."""
    data = bytearray(WHOLE)
    for at in range(len(data) - 8 - FOOTER, len(data) - 8, every):
        data[at] = value
    return bytes(data)


def _zeros(rows: int) -> bytes:
    return parquet(pl.DataFrame({"text": pl.Series(["a" * 2000]).new_from_index(0, rows)}), compression="zstd")


FORMULA = "=cmd|' /C calc'!A0"

PROMPTS = (
    written("a good table", csv({"text": "a red chair"}), "one prompt", called="a.csv"),
    written("a good table of Parquet", WHOLE, "a hundred prompts", called="a.parquet"),
    written("CSV that is packed", gzip.compress(b"text\n" + b"a" * 50_000_000), called="a.csv"),
    written("formula", csv({"text": FORMULA}), called="a.csv"),
    written(
        "formula after plus, minus and at",
        csv({"text": "+1+cmd|x"}, {"text": "@SUM(1)"}, {"text": "-2+3+cmd|x"}),
        called="a.csv",
    ),
    written("formula after a tab", csv({"text": "\t=1+1"}), called="a.csv"),
    written(
        "formula as a creator", csv({"text": "a chair", "creator": FORMULA}), "an apostrophe before it", called="a.csv"
    ),
    written(
        "formula as a source", csv({"text": "a chair", "source": "@SUM(A1)"}), "an apostrophe before it", called="a.csv"
    ),
    written("escape sequences", csv({"text": f"a chair{ESCAPE}"}), called="a.csv"),
    written("escape sequences as a creator", csv({"text": "a chair", "creator": ESCAPE}), called="a.csv"),
    written("escape sequences as a licence", csv({"text": "a chair", "licence": ESCAPE}), called="a.csv"),
    written("text that turns its direction", csv({"text": f"a chair {BIDI}"}), called="a.csv"),
    written("creator that turns its direction", csv({"text": "a chair", "creator": BIDI}), called="a.csv"),
    written("c1 controls", csv({"text": "a chair \x9b31m"}), called="a.csv"),
    written("NUL", b"text\na chair\0\n", called="a.csv"),
    written("zero width letters alone", csv({"text": "\u200b\u200d\u2060"}), called="a.csv"),
    written(
        "tag characters that hide words",
        csv({"text": "a chair" + "".join(chr(0xE0000 + ord(c)) for c in "ignore")}),
        called="a.csv",
    ),
    written("line separators", csv({"text": "a chair\u2028and more"}), called="a.csv"),
    written("1 MB of text", csv({"text": "a" * 1_000_000}), called="a.csv"),
    written("10 million letters", lambda: csv({"text": "ab " * 3_333_333}), called="a.csv"),
    written("creator of 1 MB", csv({"text": "a chair", "creator": "a" * 1_000_000}), called="a.csv"),
    written(
        "200,000 equal rows",
        b"text\n" + b"a chair\n" * 200_000,
        called="a.csv",
    ),
    written("no text at all", csv({"text": ""}), called="a.csv"),
    written("no column of text", csv({"txet": "a chair"}), called="a.csv"),
    written("column text twice", b"text,text\na chair,a table\n", "the first of them", called="a.csv"),
    written("100,000 columns", (",".join(f"c{k}" for k in range(100_000)) + "\n").encode(), called="a.csv"),
    written("rows of other lengths", b"text,creator\na,b,c,d\n", called="a.csv"),
    written("quote without end", b'text\n"a chair' + b"x" * 100_000, called="a.csv"),
    written("bytes that are no utf-8", b"text\n\xff\xfe\x80chair\n", called="a.csv"),
    written("utf-16", "text\na chair\n".encode("utf-16"), called="a.csv"),
    written("empty table", b"", called="a.csv"),
    written("name of escape sequences", b"", called=f"{ESCAPE[:4]}[/x].csv"),
    written("unsafe word in other letters", csv({"text": "a \uff47\uff4f\uff52\uff59 chair"}), called="a.csv"),
    written("unsafe word with joiners between", csv({"text": "a g\u200do\u200dr\u200dy chair"}), called="a.csv"),
    written("text file of bytes", bytes(range(256)) * 100, called="a.txt"),
    written("parquet that is text", b"text\na chair\n", called="a.parquet"),
    written("parquet of magic alone", b"PAR1PAR1", called="a.parquet"),
    written(
        "parquet whose footer is longer than it",
        WHOLE[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1",
        called="a.parquet",
    ),
    written(
        "parquet whose footer is negative", WHOLE[:-8] + struct.pack("<I", 2**32 - 1) + b"PAR1", called="a.parquet"
    ),
    written("parquet cut in the middle", WHOLE[: len(WHOLE) // 2] + WHOLE[-8:], called="a.parquet"),
    written("parquet whose footer is all ff", WHOLE[: -8 - FOOTER] + b"\xff" * FOOTER + WHOLE[-8:], called="a.parquet"),
    written("parquet whose footer is changed here and there", _flipped(7, 0xFF), called="a.parquet"),
    written("parquet whose footer holds 7f", _flipped(5, 0x7F), called="a.parquet"),
    written("parquet whose footer holds zeros", _flipped(3, 0), called="a.parquet"),
    written(
        "parquet whose pages are noise",
        b"PAR1"
        + bytes(range(256))[: len(WHOLE) - FOOTER - 12].ljust(len(WHOLE) - FOOTER - 12, b"\x55")
        + WHOLE[-8 - FOOTER :],
        called="a.parquet",
    ),
    written("parquet of 4 GB in a few bytes", lambda: _zeros(2_000_000), called="a.parquet"),
    written(
        "parquet of numbers",
        parquet(pl.DataFrame({"text": [1.5, float("nan")]})),
        "numbers as text",
        called="a.parquet",
    ),
    written("parquet of lists", parquet(pl.DataFrame({"text": [["a"], ["b"]]})), called="a.parquet"),
    written("parquet of structs", parquet(pl.DataFrame({"text": [{"a": 1}]})), called="a.parquet"),
    written("parquet of bytes that are no utf-8", parquet(pl.DataFrame({"text": [b"\xff\xfe"]})), called="a.parquet"),
    written(
        "parquet of nulls", parquet(pl.DataFrame({"text": [None, None]}, schema={"text": pl.Null})), called="a.parquet"
    ),
    written("parquet of dates", parquet(pl.DataFrame({"text": [None]}, schema={"text": pl.Date})), called="a.parquet"),
    written(
        "parquet with a licence of lists",
        parquet(pl.DataFrame({"text": ["a chair"], "licence": [["MIT"]]})),
        called="a.parquet",
    ),
)


def _objects(name: str, table: Any, called: str = "objects.csv", harmless: str = "") -> Attack:
    """A table beside a good mesh, a.obj, which must be taken or quarantined with it."""
    return written(name, table, harmless, called=called)


OBJECTS = (
    _objects("a good table", csv({"file": "a.obj", "caption": "a triangle"}), harmless="one row"),
    _objects("file above the folder", csv({"file": "../../../etc/passwd"})),
    _objects("file by absolute name", csv({"file": "/etc/passwd"})),
    _objects("file of nothing", csv({"file": " "}, {"file": "."}, {"file": ".."}, {"file": "/"})),
    _objects("file with NUL", b"file,creator\na.obj\0,x\n"),
    _objects("file of 5,000 letters", csv({"file": "a" * 5000 + ".obj"})),
    _objects("id above the folder", csv({"file": "a.obj", "id": "../../escaped"}), harmless="the id is made plain"),
    _objects("id of signs alone", csv({"file": "a.obj", "id": "///"}), harmless="the id is made plain"),
    _objects("id of escape sequences", csv({"file": "a.obj", "id": ESCAPE}), harmless="the id is made plain"),
    _objects("caption of escape sequences", csv({"file": "a.obj", "caption": ESCAPE})),
    _objects("caption of 10 MB", lambda: csv({"file": "a.obj", "caption": "a" * 10_000_000})),
    _objects("caption that turns its direction", csv({"file": "a.obj", "caption": BIDI})),
    _objects("creator of escape sequences", csv({"file": "a.obj", "creator": ESCAPE})),
    _objects(
        "creator of a formula",
        csv({"file": "a.obj", "creator": FORMULA}),
        harmless="text in Parquet, which no spreadsheet runs",
    ),
    _objects(
        "creator of html",
        csv({"file": "a.obj", "creator": "<script>alert(1)</script>"}),
        harmless="text, escaped wherever it is shown",
    ),
    _objects(
        "creator of markup", csv({"file": "a.obj", "creator": "[/bold][link=x]"}), harmless="text, printed as it is"
    ),
    _objects("licence of escape sequences", csv({"file": "a.obj", "licence": ESCAPE})),
    _objects(
        "source of javascript", csv({"file": "a.obj", "source": "javascript:alert(1)"}), harmless="text, linked nowhere"
    ),
    _objects("category of 1 MB", csv({"file": "a.obj", "category": "a" * 1_000_000})),
    _objects(
        "file twice", csv({"file": "a.obj", "caption": "x"}, {"file": "a.obj", "caption": "y"}), harmless="one row"
    ),
    _objects("table of lists", parquet(pl.DataFrame({"file": [["a.obj"]]})), "objects.parquet"),
    _objects("table of structs", parquet(pl.DataFrame({"file": ["a.obj"], "caption": [{"a": 1}]})), "objects.parquet"),
    _objects("table of numbers", parquet(pl.DataFrame({"file": [1, 2]})), "objects.parquet"),
    _objects("table of noise", bytes(range(256)), "objects.parquet"),
    _objects("table with a footer of ff", WHOLE[: -8 - FOOTER] + b"\xff" * FOOTER + WHOLE[-8:], "objects.parquet"),
    _objects(
        "table of 4 GB",
        lambda: parquet(pl.DataFrame({"file": pl.Series(["a" * 2000]).new_from_index(0, 2_000_000)})),
        "objects.parquet",
    ),
    _objects("table that is a folder of markup", csv({"file": "[/red].obj"})),
    _objects("captions of bytes", b"file,caption\na.obj,\xff\xfe\n", "captions.csv"),
    _objects("table without a file column", csv({"files": "a.obj"})),
    _objects(
        "names and captions both",
        csv({"path": "a.obj", "file": "a.obj", "name": "x", "title": "y"}),
        harmless="one row",
    ),
)


def clip_table(rows: Any) -> bytes:
    return json.dumps(rows).encode()


CLIP_TABLES = (
    written("json of 100,000 brackets", "[" * 100_000, called="clips.json"),
    written("json that is a number", "5", called="clips.json"),
    written("json that is an object", '{"clip": "a"}', called="clips.json"),
    written("json of strings", '["clip", "text"]', called="clips.json"),
    written("json with a number of 5,000 digits", '[{"clip": ' + "9" * 5000 + ', "text": "a"}]', called="clips.json"),
    written("json with lone surrogates", r'[{"clip": "\ud800", "text": "\udc80"}]', called="clips.json"),
    written("json of NaN", '[{"clip": NaN, "text": NaN}]', called="clips.json"),
    written("json of bytes", b"\xff\xfe\x00", called="clips.json"),
    written("nothing", "", called="clips.csv"),
    written("noise", bytes(range(256)), called="clips.parquet"),
    written("footer of ff", WHOLE[: -8 - FOOTER] + b"\xff" * FOOTER + WHOLE[-8:], called="clips.parquet"),
    written("lists", parquet(pl.DataFrame({"clip": [["a"]], "text": ["b"]})), called="clips.parquet"),
    written(
        "4 GB",
        lambda: parquet(pl.DataFrame({"clip": pl.Series(["a" * 2000]).new_from_index(0, 2_000_000), "text": "a"})),
        called="clips.parquet",
    ),
)
