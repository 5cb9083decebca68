"""DVC, as much of it as we use: where the cache is, which remotes there are, fetching and publishing."""

from __future__ import annotations

import configparser
import logging
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration import paths
from orchestration.errors import OrbitforgeError, in_plain_words, plain_errors
from orchestration.locks import locked
from stages.documents import DocumentError, read_json, read_yaml
from stages.hashing import file_md5

if TYPE_CHECKING:
    from dvc.repo import Repo

    from orchestration.lineage.ledger import File

_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_PATIENCE = 20  # attempts at DVC's lock, 3 s each


def cache_dir() -> Path:
    """The folder of cache objects, `<it>/ab/cdef...` by md5; from `.dvc/config`, without importing DVC."""
    return _cache_dir(paths.root(), _config().get("cache", "dir", fallback="cache"))


@lru_cache(maxsize=4)  # asked for with every object
def _cache_dir(root: Path, folder: str) -> Path:
    return (root / ".dvc" / folder).resolve() / "files" / "md5"


def object_path(md5: str) -> Path:
    return cache_dir() / md5[:2] / md5[2:]


def link_types() -> list[str]:
    """How files in `data/` hang on the cache, in order of preference: reflink, hardlink, symlink or copy."""
    return [kind.strip() for kind in _config().get("cache", "type", fallback="reflink,copy").split(",")]


def remotes() -> dict[str, str]:
    """Name -> url as `.dvc/config` and `.dvc/config.local` give them."""
    config = _config()
    named = {section.strip("'\""): section for section in config.sections()}
    return {
        name.removeprefix("remote ").strip('"'): config.get(section, "url")
        for name, section in named.items()
        if name.startswith("remote ") and config.has_option(section, "url")
    }


def pull(targets: Sequence[str], remote: str | None = None, *, place: bool = True) -> int:
    """Fetch `targets` (paths such as `data/source`) and put what is missing of them in place; returns how many files
    came. What lies there already stays as it is, and so does everything else: where a remote lacks something,
    `dvc pull` would empty all of `data/` that the cache does not hold.

    Without `place` they come into the cache alone, and with them the list of all that `data.dvc` names.
    Raises OrbitforgeError for a remote that is not configured, does not answer, or lacks the data or holds other bytes.
    """
    remote = remote or _config().get("core", "remote", fallback=None)
    url = _url(remote)

    def failed(words: str) -> OrbitforgeError:
        return OrbitforgeError(
            f"{', '.join(targets)} cannot be fetched from the DVC remote {remote!r} ({url}): {words}"
        )

    there = _objects()
    with _repo() as repo:
        here = [os.path.relpath(paths.root() / target) for target in targets]  # DVC starts at the current folder
        try:
            # of two fetches of parts of what it knows DVC takes the second for the first, and brings nothing
            repo.drop_data_index()
            repo.fetch(targets=here, remote=remote)
        except Exception as error:  # each kind of remote raises errors of its own
            raise failed(in_plain_words(error) or " ".join(str(error).split()) or type(error).__name__) from error
    came = _objects() - there
    if damaged := [md5 for md5 in sorted(came) if file_md5(object_path(md5)) != md5.removesuffix(".dir")]:
        for md5 in damaged:
            object_path(md5).unlink()
        raise failed(f"{len(damaged)} of its objects are not what their names say, first {damaged[0]}; push them again")
    prefixes = tuple(f"{target.removeprefix('data').strip('/')}/".lstrip("/") for target in targets)
    wanted = {path: md5 for path, md5 in recorded().items() if path.startswith(prefixes)}
    if lost := [path for path, md5 in wanted.items() if not object_path(md5).is_file()]:
        raise failed(f"{len(lost)} of {len(wanted)} files are not there, first data/{lost[0]}")
    if not wanted:
        raise failed("data.dvc names no such files")
    if place:
        _put_in_place(wanted)
    return len(came)


def _put_in_place(wanted: Mapping[str, str]) -> None:
    """Files of `data/` that are missing, each whole or not at all."""
    from orchestration.workspace import link

    for path, md5 in wanted.items():
        file = paths.data() / path
        if not file.exists():
            with plain_errors(f"placing {file}"):
                file.parent.mkdir(parents=True, exist_ok=True)
                aside = file.with_name(f".{file.name}.{os.getpid()}.tmp")
                link(object_path(md5), aside)
                aside.replace(file)


def _objects() -> set[str]:
    """The md5s of what the cache holds."""
    return {path.parent.name + path.name for path in cache_dir().glob("[0-9a-f][0-9a-f]/*") if path.suffix != ".tmp"}


def lacking(remote: str, md5s: Iterable[str]) -> set[str]:
    """Those of `md5s` that the remote does not hold. Raises OrbitforgeError for one that is unknown or unreachable."""
    url, wanted = _url(remote), set(md5s)
    with _repo() as repo:
        try:
            return wanted - set(repo.cloud.get_remote_odb(remote).oids_exist(sorted(wanted)))
        except Exception as error:  # each kind of remote raises errors of its own
            raise OrbitforgeError(
                f"the DVC remote {remote!r} ({url}) does not answer: {' '.join(str(error).split())}; see "
                "`dvc remote list`"
            ) from error


def remove_from(remote: str, md5s: Iterable[str]) -> None:
    """Remove objects from a remote. Raises OrbitforgeError when it refuses."""
    url = _url(remote)
    with _repo() as repo:
        odb = repo.cloud.get_remote_odb(remote)
        try:
            for md5 in md5s:
                odb.fs.remove(odb.oid_to_path(md5))
        except Exception as error:  # each kind of remote raises errors of its own
            raise OrbitforgeError(
                f"the DVC remote {remote!r} ({url}) does not let objects be removed: {' '.join(str(error).split())}"
            ) from error


def _url(remote: str | None) -> str:
    known = remotes()
    if remote not in known:
        there = ", ".join(known) or "none"
        raise OrbitforgeError(
            f"no DVC remote {remote!r} (configured: {there}); add it with `dvc remote add {remote or 'NAME'} URL`"
        )
    return known[remote]


def publish(placed: Mapping[Path, Iterable[File]], also: Iterable[Path] = ()) -> None:
    """Bring `data.dvc` in line with `placed` (folder below `data/` -> its files) and the folders in `also`.

    One process at a time; others wait. Files in `placed` are not read: their hashes are told to DVC, unless something
    else took their places since.
    """
    root, data = paths.root(), paths.data()
    targets = {_asset_folder(folder) for folder in placed} | {folder for folder in also if folder.is_dir()}
    if not (root / "data.dvc").is_file():
        targets = {data}
    if not targets:
        return
    with _publishing(), _repo() as repo:
        from dvc.fs import localfs
        from dvc_data.hashfile.hash_info import HashInfo

        known = [(folder / file.path, file.md5) for folder, files in placed.items() for file in files]
        repo.state.save_many(
            [(str(path), HashInfo("md5", md5), None) for path, md5 in known if _hangs_on(path, md5)], localfs
        )
        _add(repo, sorted(targets))


def _hangs_on(path: Path, md5: str) -> bool:
    """Whether the file is a link to this object, or a copy of it; says no where it would have to be read."""
    here, there = _stat(path), _stat(object_path(md5))
    if here is None or there is None or here.st_size != there.st_size:
        return False
    return here.st_ino == there.st_ino or here.st_mtime_ns == there.st_mtime_ns


def _add(repo: Repo, targets: Sequence[Path]) -> None:
    from dvc.exceptions import DvcException
    from dvc.lock import LockError

    for attempt in range(_PATIENCE):
        try:
            with _forgotten():
                repo.add([os.path.relpath(target) for target in targets])  # pyright: ignore[reportArgumentType]  # wrapped
            return
        except (DvcException, OSError) as error:
            # a person's own `dvc push` or `dvc add`; DVC itself waits 3 s for it
            if isinstance(error, LockError) and attempt < _PATIENCE - 1:
                continue
            names = ", ".join(str(target.relative_to(paths.root())) for target in targets)
            words = in_plain_words(error) or " ".join(str(error).split())
            raise OrbitforgeError(f"DVC could not record {names}: {words}") from error


@contextmanager
def _forgotten() -> Iterator[None]:
    """DVC keeps in memory, for good, each list of `data/` that it has made: megabytes where shards are thousands."""
    from fsspec.implementations.memory import MemoryFileSystem

    kept: dict[str, Any] = MemoryFileSystem.store
    before = set(kept)
    try:
        yield
    finally:
        for path in set(kept) - before:
            del kept[path]


def _asset_folder(folder: Path) -> Path:
    """`data/tiny/rendered_views` for a shard of it: DVC takes as long for the whole folder as for each shard."""
    return paths.data().joinpath(*folder.relative_to(paths.data()).parts[:2])


def recorded() -> dict[str, str]:
    """What `data.dvc` records: path below `data/` -> md5. Empty when it or its object in the cache is missing."""
    return ((here := pointer()) and listed(here)) or {}


def records(recorded: Mapping[str, str], folder: str, files: Iterable[File]) -> bool:
    """Whether what `recorded` gave names all `files` of a folder below `data/` as they are."""
    return all(recorded.get(f"{folder}/{file.path}") == file.md5 for file in files)


def pointer(revision: str | None = None) -> str | None:
    """The hash in `data.dvc` as it lies here, or in a git revision; None when there is no such file.

    Raises OrbitforgeError when the file is not what DVC writes.
    """
    file = paths.root() / "data.dvc"
    if revision:
        shown = subprocess.run(["git", "show", f"{revision}:./data.dvc"], cwd=paths.root(), capture_output=True)
        if shown.returncode:
            return None
        md5 = _named(shown.stdout)
    elif file.is_file():
        if (md5 := _named(file.read_bytes())) is None:
            with _publishing():  # DVC is at it, or was killed at it
                md5 = _named(file.read_bytes())
    else:
        return None
    if md5 is None:
        raise OrbitforgeError(
            f"{file} is no pointer that DVC wrote{f' in {revision}' if revision else ''}; bring it back with "
            "`git checkout -- data.dvc`"
        )
    return md5


def _named(text: bytes) -> str | None:
    """The hash in the text of a `data.dvc`."""
    try:
        md5 = str(read_yaml(text)["outs"][0]["md5"])
    except (DocumentError, LookupError, TypeError):
        return None
    return md5 if _MD5.fullmatch(md5) else None


@contextmanager
def _publishing() -> Iterator[None]:
    """One process at a time. DVC writes `data.dvc` and its own list of locks in place: killed, or on a full disk, it
    leaves half a file, which nobody could read any more. Here the one comes back as it was, the other goes."""
    file, before = paths.root() / "data.dvc", paths.work() / "data.dvc.before"
    with locked(paths.work() / "publish.lock"), plain_errors(f"writing {file}"):
        if file.is_file() and _named(file.read_bytes()) is None and before.is_file():
            _write(file, before.read_bytes())
        held = paths.root() / ".dvc" / "tmp" / "rwlock"
        if held.is_file() and not _is_json(held.read_text(errors="replace")):
            held.unlink()
        _keep(file, before)
        yield
        _keep(file, before)


def _keep(file: Path, before: Path) -> None:
    if file.is_file() and _named(content := file.read_bytes()):
        _write(before, content)


def _write(file: Path, content: bytes) -> None:
    """Whole or not at all."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _is_json(text: str) -> bool:
    try:
        read_json(text)
    except DocumentError:
        return False
    return True


def listed(md5: str) -> dict[str, str] | None:
    """What the folder object `md5` lists: path -> md5; None when it is not in the cache.

    Raises OrbitforgeError for what is no list of files below one folder.
    """
    path = object_path(md5)
    try:
        return _entries(path.read_bytes(), str(path))
    except FileNotFoundError:
        return None


def _entries(data: bytes, path: str) -> dict[str, str]:
    try:
        found = {entry["relpath"]: entry["md5"] for entry in read_json(data)}
        wrong = [name for name, of in found.items() if not (_below(name) and _MD5.fullmatch(of))]
    except (DocumentError, LookupError, TypeError, AttributeError):
        raise OrbitforgeError(
            f"{path} is no list that DVC wrote; remove it, and fetch it from a remote again"
        ) from None
    if wrong:
        raise OrbitforgeError(
            f"{path} lists {wrong[0]!r}, which is no file below data/: whoever can write there has changed it; nothing "
            "is fetched by it"
        )
    return found


def _below(name: str) -> bool:
    """Whether a relative path stays where it starts."""
    return bool(name) and not (set(name.split("/")) & {"", ".", ".."}) and "\0" not in name and "\\" not in name


def _repo() -> Repo:
    """Raises OrbitforgeError when the root holds no DVC repository."""
    if not (paths.root() / ".dvc").is_dir():
        raise OrbitforgeError(
            f"{paths.root()} holds no .dvc folder; run `dvc init` there or clone the repository again"
        )
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)  # no bars of its own inside ours
    return Repo(str(paths.root()))


def _config() -> configparser.RawConfigParser:
    files = _config_files(paths.root())
    return _parsed(tuple((file, stat.st_mtime_ns, stat.st_size) for file in files if (stat := _stat(file))))


@lru_cache(maxsize=4)
def _config_files(root: Path) -> tuple[str, ...]:
    return tuple(str(root / ".dvc" / name) for name in ("config", "config.local"))


@lru_cache(maxsize=4)
def _parsed(files: tuple[tuple[str, int, int], ...]) -> configparser.RawConfigParser:
    config = configparser.RawConfigParser()
    config.read([file for file, _, _ in files])
    return config


def _stat(file: Path | str) -> os.stat_result | None:
    try:
        return os.stat(file)  # noqa: PTH116
    except FileNotFoundError:
        return None
