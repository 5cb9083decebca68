"""Zip archives of other people, unpacked with suspicion."""

from __future__ import annotations

import errno
import hashlib
import lzma
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

MEMBERS, BYTES, RATIO = 200_000, 8_000_000_000, 200
"""The most that an archive may hold; the ratio, of unpacked to packed bytes, counts above `SMALL`."""
SMALL = 50_000_000


class ArchiveError(ValueError):
    """An archive that is not unpacked: `reason: error`."""


def unpacked(archive: Path, scratch: Path) -> Path:
    """The folder below `scratch` that holds the archive's files; unpacked again only when the archive has changed.

    Raises ArchiveError.
    """
    stat_ = archive.stat()
    key = f"{archive.resolve()}\n{stat_.st_size}\n{stat_.st_mtime_ns}"
    folder = scratch / hashlib.sha256(key.encode()).hexdigest()[:16]
    if not folder.is_dir():
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unpack(archive, unfinished)
        unfinished.rename(folder)
    return folder


UNREADABLE = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, EOFError,
    ValueError,
)  # fmt: skip
"""What zipfile raises on archives that are broken, encrypted or packed in a way it does not know."""


NAMES = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EINVAL, errno.ELOOP, errno.EILSEQ)
"""What a file system says of names that it cannot have, or not beside each other."""


def unpack(archive: Path, folder: Path) -> None:
    """Unpack into the new folder `folder`; all of it or, with ArchiveError, nothing."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            _refuse(zipped, archive.stat().st_size)
            folder.mkdir(parents=True)
            for member in zipped.infolist():
                if not member.is_dir():
                    _unpack_member(zipped, member, folder)
    except ArchiveError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        if error.errno not in NAMES:
            raise
        raise ArchiveError(f"refused: members that cannot be files here: {error.strerror}") from error
    except UNREADABLE as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ArchiveError(f"unreadable: {type(error).__name__}: {error}") from error


def _refuse(zipped: zipfile.ZipFile, packed: int) -> None:
    members = zipped.infolist()
    if len(members) > MEMBERS:
        raise ArchiveError(f"refused: {len(members)} members, more than {MEMBERS}")
    total = sum(member.file_size for member in members)
    if total > BYTES or total > max(SMALL, RATIO * packed):
        raise ArchiveError(f"refused: {total} bytes packed into {packed}, an archive bomb")
    for member in members:
        name = PurePosixPath(member.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in member.filename or ":" in member.filename:
            raise ArchiveError(f"refused: the member {member.filename!r} leaves the archive's folder")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ArchiveError(f"refused: the member {member.filename!r} is a link")


def _unpack_member(zipped: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    """Stops at the size that the archive's directory gives, whatever the member's data say."""
    target = folder / member.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    with zipped.open(member) as source, target.open("wb") as file:
        while block := source.read(1 << 20):
            left -= len(block)
            if left < 0:
                raise ArchiveError(f"refused: the member {member.filename!r} is larger than it says")
            file.write(block)
