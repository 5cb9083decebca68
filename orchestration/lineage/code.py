"""The version of code: a hash of source text, without what cannot change a result."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import sys
import token
import tokenize
from collections.abc import Collection, Iterable, Iterator
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from orchestration.errors import OrbitforgeError
from orchestration.memo import FileMemo, settled

FIRST_PARTY = frozenset({"stages", "models"})
"""Packages whose modules count wherever they are imported; `orchestration` counts only where a step names it."""

Stamp = tuple[int, int, int] | None  # time of the last change in ns, size, inode; None where there is nothing
Span = tuple[tuple[int, int], tuple[int, int]]  # (line, column) of first and past-the-end character, lines from 1


def code_modules(modules: Iterable[str]) -> dict[str, str]:
    """Module name -> hash of its source, for `modules` and every first-party module they import, also in functions.

    Comments, docstrings and blank lines do not count. Reads files, imports nothing. Raises OrbitforgeError for a
    module that does not exist or does not parse.
    """
    named = tuple(modules)
    homes = {top: _homes(top) for top in sorted(FIRST_PARTY | {name.partition(".")[0] for name in named})}
    asked = (named, *homes.values())
    known = _closures.get(asked)
    if known is None or any(_stamp(path) != stamp for path, stamp in known[1].items()):  # asked a few times a shard
        known = _closure(named, homes.keys() - {"orchestration"})
        if settled(max((stamp[0] for stamp in known[1].values() if stamp), default=0)):
            _closures[asked] = known
    found = known[0]
    for name, hash_ in found.items():
        _seen.setdefault(name, hash_)
    return {name: found[name] for name in sorted(found) if found[name] != _EMPTY}


def _closure(named: Iterable[str], followed: Collection[str]) -> tuple[dict[str, str], dict[str, Stamp]]:
    """The hashes of all modules, and the stamps of what they were found by: files, and the folders they lie in."""
    found: dict[str, str] = {}
    stamps: dict[str, Stamp] = {}

    def look(name: str) -> Path | None:
        path, folders = _file_of(name)
        for each in (*folders, *([str(path)] if path else [])):
            stamps.setdefault(each, _stamp(each))
        return path

    file_of = cache(look)  # a module is imported by many
    queue = list(named)
    while queue:
        name = queue.pop()
        if name in found:
            continue
        path = file_of(name)
        if path is None:
            raise OrbitforgeError(f"no module {name!r} to take a code version of; correct `code` of the step")
        found[name], imports = _files(path, partial(_read, name=name))
        for imported in imports:
            if imported.partition(".")[0] in followed:
                # `from a.b import c` names a module a.b.c or something inside a.b; parents run on import too
                parts = imported.split(".")
                chain = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
                queue.extend(module for module in chain if module not in found and file_of(module))
    return found, stamps


def edited_while_running(modules: Iterable[str]) -> list[str]:
    """The modules this process runs in an older form than the file now has; their results must not be recorded."""
    return [name for name, now in code_modules(modules).items() if name in sys.modules and _seen[name] != now]


def code_version(modules: Iterable[str]) -> str:
    """One hash over `code_modules(modules)`."""
    text = "\n".join(f"{name} {hash_}" for name, hash_ in code_modules(modules).items())
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def significant(source: str) -> str:
    """`source` without comments, docstrings, other bare strings, blank lines and trailing blanks.

    The rest stands as it was written (the text of `ast.dump` would change between Python versions); what lies inside
    a string is never touched.
    """
    return _significant(source, ast.parse(source))


def _significant(source: str, tree: ast.AST) -> str:
    lines = source.split("\n")
    cuts, strings = _spans(source, lines, tree)
    verbatim = {line for (first, _), (last, _) in strings for line in range(first, last)}
    for (first, start), (last, end) in sorted(cuts, reverse=True):
        kept = lines[first - 1][:start] + lines[last - 1][end:]
        lines[first - 1 : last] = [kept] + [""] * (last - first)
    text = (line if n in verbatim else line.rstrip() for n, line in enumerate(lines, 1))
    return "\n".join(line for n, line in enumerate(text, 1) if line or n in verbatim)


def _spans(source: str, lines: list[str], tree: ast.AST) -> tuple[list[Span], list[Span]]:
    """What to cut (comments, bare strings), and the strings that run over several lines and stay."""
    bare = [
        ((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0))
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]

    def alone(at: tuple[int, int]) -> bool:
        place = (at[0], len(lines[at[0] - 1][: at[1]].encode()))  # ast counts bytes, tokenize characters
        return any(start <= place < end for start, end in bare)

    begins = {getattr(token, name, None) for name in ("FSTRING_START", "TSTRING_START")} - {None}
    ends = {getattr(token, name, None) for name in ("FSTRING_END", "TSTRING_END")} - {None}
    cuts: list[Span] = []
    strings: list[Span] = []
    opened: list[tuple[int, int]] = []
    for item in tokenize.generate_tokens(io.StringIO(source).readline):
        if item.type == token.COMMENT:
            cuts.append((item.start, item.end))
        elif item.type == token.STRING:
            (cuts if alone(item.start) else strings).append((item.start, item.end))
        elif item.type in begins:
            opened.append(item.start)
        elif item.type in ends:
            strings.append((opened.pop(), item.end))
    return cuts, [span for span in strings if span[0][0] < span[1][0]]


def _read(path: Path, name: str) -> tuple[str, list[str]]:
    """Hash and imported names of one file."""
    source = path.read_text(encoding="utf-8")
    try:
        tree = ast.parse(source)
        text = _significant(source, tree)
    except (SyntaxError, tokenize.TokenError) as error:
        raise OrbitforgeError(f"{path} does not parse: {error}; correct it") from None
    imports = list(dict.fromkeys(_imports(tree, name, path.name == "__init__.py")))
    return hashlib.sha256(text.encode()).hexdigest()[:16], imports


def _imports(tree: ast.AST, name: str, is_package: bool) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = name.split(".")[: len(name.split(".")) - node.level + is_package]
                base = ".".join([*parents, *([base] if base else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _file_of(module: str) -> tuple[Path | None, list[str]]:
    """The file of a module, and the folders that change when another file becomes it."""
    top, *rest = module.split(".")
    folders: list[str] = []
    for home in _homes(top):
        path = os.path.join(home, *rest)  # noqa: PTH118
        folders.append(_nearest(path))
        for file in (f"{path}/__init__.py", f"{path}.py")[: 1 + bool(rest)]:
            if os.path.isfile(file):  # noqa: PTH113
                return Path(file), folders
    return None, folders


def _nearest(folder: str) -> str:
    """The folder, or the one nearest above it that is there."""
    while not os.path.isdir(folder):  # noqa: PTH112
        folder = os.path.dirname(folder)  # noqa: PTH120
    return folder


def _stamp(path: str) -> Stamp:
    try:
        stat = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


@cache
def _homes(top: str) -> tuple[Path, ...]:
    """The folders of a top-level package, found as an import would (editable installs too) without importing it."""
    spec = find_spec(top)
    return tuple(Path(place) for place in (spec.submodule_search_locations or ())) if spec else ()


_files = FileMemo("code")
_closures: dict[tuple[Any, ...], tuple[dict[str, str], dict[str, Stamp]]] = {}
_seen: dict[str, str] = {}  # as this process first read them, which is before it imported them
_EMPTY = hashlib.sha256(b"").hexdigest()[:16]
