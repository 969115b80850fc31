"""Files and folders that are written whole or not at all.

A file is written under a temporary name beside its place, flushed to the disk and renamed; a folder likewise, with
`MANIFEST.json` (SHA-256 of every file) written last. A kill at any moment leaves the old state or the new one.
Left-overs of a kill begin with `.incomplete-` and are never read; the next who writes to the same place removes them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import glob
import hashlib
import json
import os
import platform
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt_kit.errors import CheckpointError, DataError, DiskFullError, FolderInUseError

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST = "MANIFEST.json"
INCOMPLETE = ".incomplete-"
PROGRESS = ".progress"
_LOCK, _WRITER = ".lock", ".writer"


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write `content` to `path`; a reader sees the old file or the whole new one.

    Raises: DiskFullError (the old file is kept).
    """
    data = content.encode() if isinstance(content, str) else content
    with atomic_file(path, needed_bytes=len(data)) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def atomic_file(path: Path, *, needed_bytes: int = 0) -> Iterator[Path]:
    """Yield a temporary name, under which the block writes what becomes `path` when it ends without an error.

    Where `needed_bytes` says how much will be written, too small a disk is refused before anything is.
    Raises: DiskFullError. The old file is kept, and nothing else is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{INCOMPLETE}{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        with full_disk_explained(path, needed_bytes):
            if free_bytes(path) < needed_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            yield temporary
            _flush_to_disk(temporary)
        os.replace(temporary, path)
        _flush_to_disk(path.parent)  # the name too, not only the content
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path, *, keep_others: bool = False, needed_bytes: int = 0) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` when the block ends without an error.

    The manifest is written for the caller. Where `path` exists it is replaced as a whole; with `keep_others`, files of it that the
    block does not write are taken over (as hard links where the disk has them). Where `needed_bytes` says how much will be written,
    too small a disk is refused before anything is.
    Raises: DataError when `path` is a file or the current folder; DiskFullError. In both cases nothing is left behind, and an
    earlier folder is intact.
    """
    path = _replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f"{INCOMPLETE}{path.name}-{uuid.uuid4().hex[:8]}")
    with full_disk_explained(path, needed_bytes):
        if free_bytes(path) < needed_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        try:
            with _made_by_this_process(temporary):
                yield temporary
                write_manifest(temporary)
                if keep_others and path.exists():
                    _take_over_others(path, temporary)
                _flush_below(temporary)
                (temporary / _WRITER).unlink()
                _publish(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def incomplete_folder(path: Path) -> Path:
    """Where `resumable_folder` keeps what is to become `path`."""
    path = path.resolve()
    return path.with_name(f"{INCOMPLETE}{path.name}")


@contextlib.contextmanager
def resumable_folder(path: Path, check: Callable[[Path], None] = lambda _: None) -> Iterator[Path]:
    """As `atomic_folder`, for long work: the temporary folder has one name and a lock, and an error or a kill leaves it as it is.

    The next who writes `path` finds what was done. Notes about the progress belong into the folder PROGRESS below it, which goes
    when all is done. `check` is asked just before `path` is replaced, and may raise; the work then stays where it is.
    Raises: FolderInUseError when another process is at it.
    """
    path = _replaceable(path)
    _remove_leftovers(path)
    temporary = incomplete_folder(path)
    with lock_folder(temporary):
        for half_written in temporary.rglob(f"{INCOMPLETE}*"):
            half_written.unlink()
        with full_disk_explained(path):
            yield temporary
            write_manifest(temporary)
            _flush_below(temporary)
        check(path)
        _publish(temporary, path)
        shutil.rmtree(path / PROGRESS, ignore_errors=True)
        (path / _LOCK).unlink()
        shutil.rmtree(temporary, ignore_errors=True)  # after an exchange: what `path` was before


@contextlib.contextmanager
def _made_by_this_process(folder: Path) -> Iterator[None]:
    """Make `folder`, with a lock in it that ends with this process. It is held before it has its name, so nobody finds it free."""
    folder.mkdir()
    with open(folder / f"{_WRITER}-", "w") as file:
        with contextlib.suppress(OSError):  # a disk that cannot lock: whoever asks there is refused, too
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write(platform.node())
        file.flush()
        (folder / f"{_WRITER}-").rename(folder / _WRITER)
        yield


def _remove_leftovers(path: Path) -> None:
    """Remove what killed writers of `path` left on this machine: locks of another one may not be seen from here."""
    for folder in path.parent.glob(f"{INCOMPLETE}{glob.escape(path.name)}-????????"):
        with contextlib.suppress(OSError), open(folder / _WRITER, "r+") as file:  # the lock is held, or there is none
            if file.read() == platform.node():
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def _replaceable(path: Path) -> Path:
    path = path.resolve()
    if path.exists() and (not path.is_dir() or path == Path.cwd()):
        what = "the current folder, which cannot be replaced while you are in it" if path.is_dir() else "a file, not a folder"
        raise DataError(f"{path}: this is {what}. Choose another place to write to")
    return path


def _flush_below(folder: Path) -> None:
    for entry in [*folder.rglob("*"), folder]:
        if not entry.is_symlink():
            _flush_to_disk(entry)


def _publish(temporary: Path, path: Path) -> None:
    """Let `temporary` take the place of `path`."""
    if not path.exists():
        temporary.rename(path)
    elif not _exchange(temporary, path):  # no such call on this system: two renames, with an instant in between
        replaced = path.with_name(f"{INCOMPLETE}{path.name}-{uuid.uuid4().hex[:8]}")
        path.rename(replaced)
        temporary.rename(path)
        shutil.rmtree(replaced, ignore_errors=True)
    _flush_to_disk(path.parent)


def sha256_of_file(path: Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path) -> None:
    """Write the SHA-256 of every file below `folder` into its MANIFEST.json."""
    hashes = {str(file.relative_to(folder)): sha256_of_file(file) for file in _files_below(folder)}
    write_json(folder / MANIFEST, hashes)


def check_manifest(folder: Path, but_not: str = "") -> None:
    """Compare every file of `folder`, but not those in its subfolder `but_not`, with its manifest.

    Raises: CheckpointError that names the first file that is missing or differs.
    """
    if not (folder / MANIFEST).is_file():
        raise CheckpointError(f"{folder}: {MANIFEST} is missing, so this folder was never finished. Choose another checkpoint")
    try:
        hashes = read_json(folder / MANIFEST)
    except DataError as error:
        raise CheckpointError(f"{error}. The file is damaged. Choose another checkpoint") from None
    if not isinstance(hashes, dict) or not hashes:
        raise CheckpointError(f"{folder}: {MANIFEST} lists no files, so it is damaged. Choose another checkpoint")
    for name, expected in hashes.items():
        if but_not and name.startswith(f"{but_not}/"):
            continue
        file = folder / name
        if not file.is_file():
            raise CheckpointError(f"{folder}: {name} is missing, though the manifest lists it. Choose another checkpoint")
        try:
            found = sha256_of_file(file)
        except OSError as error:
            raise CheckpointError(f"{file}: cannot be read ({error.strerror}). Choose another checkpoint") from None
        if found != expected:
            raise CheckpointError(
                f"{folder}: {name} does not match its manifest (SHA-256 {found[:8]}…, expected {str(expected)[:8]}…). "
                f"The file is damaged: choose another checkpoint. If you changed it yourself, delete {MANIFEST}"
            )


def read_json(path: Path) -> Any:
    """The parsed content of a JSON file. Raises: DataError naming the file and the line at fault."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid JSON ({error})") from None


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU. Raises: CheckpointError when the file is missing or malformed."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file") from None
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}). Copy or save it again") from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors (with the `format: pt` mark that `transformers` asks for)."""
    from safetensors.torch import save_file

    with full_disk_explained(path, sum(tensor.nbytes for tensor in tensors.values())):
        path.touch()
        usual_mode = path.stat().st_mode
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
        path.chmod(usual_mode)  # safetensors leaves files that only their owner can read


def free_bytes(path: Path) -> int:
    """Bytes that this user may still write on the disk of `path`, which itself need not exist."""
    return shutil.disk_usage(next(folder for folder in path.absolute().parents if folder.exists())).free


def is_disk_full(error: BaseException) -> bool:
    """Whether an error means that there is no room, from the system or from safetensors, which words it in its own way."""
    no_room = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return no_room or isinstance(error, DiskFullError) or any(words in str(error) for words in ("No space left on", "Disk quota exceeded"))


@contextlib.contextmanager
def full_disk_explained(path: Path, needed_bytes: int = 0) -> Iterator[None]:
    """Turn the many errors of a full disk into one DiskFullError that names `path` and the bytes needed and free."""
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        needed_bytes = needed_bytes or getattr(error, "needed_bytes", 0)
        needed = f"{needed_bytes:,} bytes needed, " if needed_bytes else ""
        raise DiskFullError(
            f"{path}: the disk is full ({needed}{free_bytes(path):,} bytes free). What was there before is intact; make room", needed_bytes
        ) from error


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process. The lock ends with the process, however it ends, so it can never be stale.

    Raises: FolderInUseError when another process holds it.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / _LOCK, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise FolderInUseError(
                f"{folder}: another run (process {owner}) is writing into this folder. Wait for it, stop it, or choose another --out"
            ) from None
        except OSError as error:  # some network file systems
            raise DataError(
                f"{folder}: this disk cannot lock files (flock: {error.strerror}). Mount it with flock, or choose another disk"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()} on {platform.node()}")
        file.flush()
        try:
            yield
        finally:
            if is_new:
                _remove_if_nothing_came_of_it(folder)


def _remove_if_nothing_came_of_it(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it may be gone already, or somebody else may be writing into it
        if [entry.name for entry in folder.iterdir()] == [_LOCK]:
            (folder / _LOCK).unlink()
            folder.rmdir()


def _take_over_others(old: Path, new: Path) -> None:
    """Bring every entry of `old` that `new` lacks into `new`, and what the old manifest says of it."""
    for entry in sorted(old.rglob("*")):
        place = new / entry.relative_to(old)
        if entry.is_dir() and not entry.is_symlink():
            place.mkdir(exist_ok=True)
        elif not place.exists():
            try:
                os.link(entry, place, follow_symlinks=False)
            except OSError:  # a disk without hard links
                shutil.copy2(entry, place, follow_symlinks=False)
    if (old / MANIFEST).is_file():
        with contextlib.suppress(DataError):
            write_json(new / MANIFEST, {**read_json(old / MANIFEST), **read_json(new / MANIFEST)})


def _exchange(a: Path, b: Path) -> bool:
    """Let two paths change places in one instant (Linux, renameat2). False where that cannot be done."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    at_cwd, exchange = -100, 2  # <fcntl.h>, <linux/fs.h>
    return rename is not None and rename(at_cwd, bytes(a.absolute()), at_cwd, bytes(b.absolute()), exchange) == 0


def _files_below(folder: Path) -> list[Path]:
    files = (file for file in folder.rglob("*") if file.is_file() and file.name not in (MANIFEST, _LOCK, _WRITER))
    return sorted(file for file in files if file.relative_to(folder).parts[0] != PROGRESS)


def _flush_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
