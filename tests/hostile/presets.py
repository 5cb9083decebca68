"""Presets, vocabularies, protocols and policies: tags that make objects, anchors that laugh, numbers without end."""

from __future__ import annotations

from tests.hostile.case import RAN, Attack, Place, written

LAUGHS = "a0: &a0 [lol, lol]\n" + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 12))
MERGES = "m0: &m0 {x: 1}\n" + "".join(f"m{k}: &m{k} {{<<: [{', '.join([f'*m{k - 1}'] * 9)}]}}\n" for k in range(1, 9))


def _runs(name: str, tag: str, called: str = "a.yaml") -> Attack:
    def make(place: Place):
        path = place.given / called
        path.write_text(tag.replace("MARK", str(place.root / RAN)))
        return path

    return Attack(name, make)


YAML = (
    _runs("tag that applies os.system", "name: !!python/object/apply:os.system ['touch MARK']\n"),
    _runs("tag that makes a new object", "name: !!python/object/new:os.system ['touch MARK']\n"),
    _runs("tag that names a module", "name: !!python/module:antigravity ''\n"),
    _runs("tag of a tuple", "name: !!python/tuple [1, 2]\n"),
    written("laughs", LAUGHS + "name: *a11\n", called="a.yaml"),
    written("laughs as a key's value", LAUGHS + "seed: *a11\n", called="a.yaml"),
    written("merges in merges", MERGES + "name: *m8\n", called="a.yaml"),
    written("anchor of itself", "name: &a [*a]\n", called="a.yaml"),
    written("anchor of itself as a section", "rendering: &a\n  size: *a\n", called="a.yaml"),
    written("100,000 brackets", "name: " + "[" * 100_000, called="a.yaml"),
    written("5,000 braces", "name: " + "{a: " * 5000, called="a.yaml"),
    written("number of 5,000 digits", "seed: " + "9" * 5000 + "\n", called="a.yaml"),
    written("number of 10^400", "seed: 1e400\n", called="a.yaml"),
    written("number that is none", "rendering: {radius: .nan}\n", called="a.yaml"),
    written("number without end", "rendering: {radius: .inf}\n", called="a.yaml"),
    written("day that is none", "name: 2001-99-99\n", called="a.yaml"),
    written("key twice", "name: a\nname: b\n", called="a.yaml"),
    written("key that is a list", "? [a, b]\n: c\n", called="a.yaml"),
    written("key that is a map", "? {a: b}\n: c\n", called="a.yaml"),
    written("key that is a number", "1: 2\n", called="a.yaml"),
    written("key of escape sequences", '"\\e[31m\\a": 1\n', called="a.yaml"),
    written("value of escape sequences", 'seed: "\\e]0;x\\a"\n', called="a.yaml"),
    written("value of 10 MB", "seed: " + "a" * 10_000_000 + "\n", called="a.yaml"),
    written("list for a map", "- a\n- b\n", called="a.yaml"),
    written("two documents", "name: a\n---\nname: b\n", called="a.yaml"),
    written("NUL", "name: a\0b\n", called="a.yaml"),
    written("bytes that are no utf-8", b"name: \xff\xfe\x80\n", called="a.yaml"),
    written("binary noise", bytes(range(256)) * 10, called="a.yaml"),
    written("tabs", "name:\n\t- a\n", called="a.yaml"),
)

PRESETS = (
    written("a good preset", "extends: tiny\n", "it is planned", called="mine.yaml"),
    *YAML,
    written("name above the folder", "name: ../../escaped\n", called="a.yaml"),
    written("name with a line feed", 'name: "escaped\\n"\n', called="a.yaml"),
    written("source above the folder", "source: {folder: ../../../etc}\n", called="a.yaml"),
    written("source by absolute name", "source: {folder: /etc}\n", called="a.yaml"),
    written("source that is the ledger", "source: {folder: ledger/.}\n", called="a.yaml"),
    written("source that is the data folder", "source: {folder: .}\n", called="a.yaml"),
    written("source of nothing", "source: {folder: ''}\n", called="a.yaml"),
    written("extends a file elsewhere", "extends: ../../../../../etc/passwd\n", called="a.yaml"),
    written("extends by absolute name", "extends: /etc/hostname\n", called="a.yaml"),
    written("extends a list", "extends: [tiny]\n", called="a.yaml"),
    written("extends itself", "extends: a\n", called="a.yaml"),
    written("unknown key of code", "python: import os\n", called="a.yaml"),
    written("section that is text", "rendering: text\n", called="a.yaml"),
    written("md5 that is a path", "quality: {features: {dino: {at: /etc, md5: ../../x}}}\n", called="a.yaml"),
    written("views below zero", "rendering: {views: -1}\n", called="a.yaml"),
    written("seed that is true", "seed: [true]\n", called="a.yaml"),
    written("preset called by escape sequences", "seed: x\n", called="\x1b[31m[/x].yaml"),
)

VOCABULARIES = (
    written(
        "a good vocabulary",
        "templates: ['a {colour} {category}']\ncategories: [chair, lamp]\ncolours: [red, blue]\n",
        "three sentences",
        called="a.yaml",
    ),
    *YAML,
    written(
        "template that reaches for attributes",
        "templates: ['{category.__class__.__mro__}']\ncategories: [chair]\n",
        called="a.yaml",
    ),
    written(
        "template that is 10^9 wide", "templates: ['{category:>1000000000}']\ncategories: [chair]\n", called="a.yaml"
    ),
    written(
        "template within a template", "templates: ['{category:{category}}']\ncategories: [chair]\n", called="a.yaml"
    ),
    written("template that converts", "templates: ['{category!r}']\ncategories: [chair]\n", called="a.yaml"),
    written("template of a brace", "templates: ['{category} {']\ncategories: [chair]\n", called="a.yaml"),
    written(
        "weight without end",
        "templates: ['a {category}']\ncategories: [{word: chair, weight: .inf}]\n",
        called="a.yaml",
    ),
    written("words of escape sequences", 'templates: ["a {category}"]\ncategories: ["\\e[31m"]\n', called="a.yaml"),
    written(
        "words that are templates",
        "templates: ['a {category}', 'one {category}', 'the {category}']\ncategories: ['{category}']\n",
        "its braces are letters",
        called="a.yaml",
    ),
    written("no words", "templates: []\ncategories: []\n", called="a.yaml"),
)

PROTOCOLS = (
    *YAML,
    written(
        "folder above",
        "kind: pictures\nid: a\nfolder: ../../../../etc\n",
        "pictures alone are read of a folder",
        called="a.yaml",
    ),
    written("views of 10^9", "kind: pictures\nid: a\nviews: 1000000000\nfolder: .\n", called="a.yaml"),
    written("id above the folder", "kind: text\nid: ../../escaped\n", called="a.yaml"),
    written("unknown kind", "kind: code\nid: a\n", called="a.yaml"),
)

POLICIES = (
    *YAML,
    written("metric of NaN", "metrics: {model: {psnr: {at_least: .nan}}}\n", called="a.yaml"),
    written("licences as text", "licences: all\n", called="a.yaml"),
)
