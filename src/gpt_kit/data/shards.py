"""Token shards: a corpus on disk.

A shard is a 64-byte header (magic, version, bytes per id, count, tokenizer fingerprint) and then the ids, nothing else. Reading
is a memory map: opening a terabyte costs nothing and processes share pages. Ids without their tokenizer train without complaint
into noise, hence the fingerprint.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from gpt_kit.errors import DataError
from gpt_kit.files import MANIFEST, read_json, sha256_of_file

INFO = "corpus.json"
MAGIC = b"GPTKTOKS"
VERSION = 1
HEADER = struct.Struct("<8sIIQ32s8x")  # 64 bytes
RESERVED_BYTES = 8  # the last of them, zero
TOKENS_PER_SHARD = 100_000_000  # 200 MB of uint16: large enough to read fast, small enough to copy and check one by one


class ShardWriter:
    """Writes ids into numbered shards `NAME-00000.tokens`. The folder is the caller's, who makes it appear as a whole."""

    def __init__(self, folder: Path, name: str, vocab_size: int, fingerprint: str, tokens_per_shard: int = 0, *, keep: int = 0) -> None:
        """`tokens_per_shard`: 0 means TOKENS_PER_SHARD.

        `keep`: go on behind so many tokens that lie in the folder already; what was written after them is dropped.
        """
        self.folder, self.name, self.fingerprint = folder, name, fingerprint
        self.dtype = np.dtype(f"<u{bytes_per_id(vocab_size)}")
        self.tokens_per_shard = tokens_per_shard or TOKENS_PER_SHARD
        self.num_tokens = 0
        self.shards: list[str] = []
        self._file: BinaryIO | None = None
        self._in_file = 0
        if keep:
            self._keep(keep)

    def write(self, ids: Sequence[int] | NDArray[np.generic]) -> None:
        """Append ids; a new shard begins where one is full. Raises: OverflowError for an id that needs more bytes."""
        if isinstance(ids, np.ndarray) and ids.dtype != self.dtype and len(ids) and ids.max() > np.iinfo(self.dtype).max:
            raise OverflowError(f"id {ids.max()} does not fit into {self.dtype.itemsize} bytes")
        array = np.asarray(ids, dtype=self.dtype)
        while len(array):
            if self._file is None:
                self._open()
            room = self.tokens_per_shard - self._in_file
            self._write_part(array[:room])
            array = array[room:]

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Write the count into the last shard's header."""
        if self._file is not None:
            self._file.seek(0)
            self._file.write(self._header(self._in_file))
            self._file.close()
            self._file = None

    def flush(self) -> None:
        """Bring everything written so far onto the disk, the count of it too."""
        if self._file is not None:
            self._file.seek(0)
            self._file.write(self._header(self._in_file))
            self._file.seek(0, os.SEEK_END)
            self._file.flush()
            os.fsync(self._file.fileno())

    def _keep(self, tokens: int) -> None:
        full, self._in_file = divmod(tokens, self.tokens_per_shard)
        self.num_tokens = tokens
        self.shards = [shard_name(self.name, number) for number in range(full + (self._in_file > 0))]
        for shard in self.folder.glob(f"{self.name}-*.tokens"):
            if shard.name not in self.shards:
                shard.unlink()
        if self._in_file:
            self._file = open(self.folder / self.shards[-1], "r+b")
            self._file.truncate(HEADER.size + self._in_file * self.dtype.itemsize)
            self._file.write(self._header(0))
            self._file.seek(0, os.SEEK_END)

    def _open(self) -> None:
        self.shards.append(shard_name(self.name, len(self.shards)))
        self._file = open(self.folder / self.shards[-1], "wb")
        self._file.write(self._header(0))
        self._in_file = 0

    def _write_part(self, part: NDArray[np.generic]) -> None:
        assert self._file is not None
        self._file.write(part.tobytes())
        self._in_file += len(part)
        self.num_tokens += len(part)
        if self._in_file == self.tokens_per_shard:
            self.flush()  # a later journal counts it, and flushes only the shard that is then open
            self.close()

    def _header(self, count: int) -> bytes:
        return HEADER.pack(MAGIC, VERSION, self.dtype.itemsize, count, bytes.fromhex(self.fingerprint))


def shard_name(name: str, number: int) -> str:
    """Under which a shard lies in its folder."""
    return f"{name}-{number:05d}.tokens"


def bytes_per_id(vocab_size: int) -> int:
    """What an id takes in a shard."""
    return 2 if vocab_size <= 2**16 else 4


def open_shard(path: Path, fingerprint: str) -> NDArray[np.generic]:
    """The ids of one shard as a read-only memory map. Raises: DataError for a foreign, truncated or mismatched shard."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            head = file.read(HEADER.size)
    except FileNotFoundError:
        raise DataError(f"{path}: this shard of the corpus is missing. Prepare the corpus again") from None
    except OSError as error:
        raise DataError(f"{path}: this shard of the corpus cannot be read ({error.strerror})") from None
    if len(head) < HEADER.size or head[:8] != MAGIC:
        raise DataError(f"{path}: not a shard of gpt-kit (expected the first bytes {MAGIC!r}, got {head[:8]!r})")
    _, version, item_bytes, count, found = HEADER.unpack(head)
    if version != VERSION or item_bytes not in (2, 4):
        raise DataError(f"{path}: shard format {version} with {item_bytes} bytes per id is not known; expected format {VERSION}")
    if size != HEADER.size + count * item_bytes:
        raise DataError(
            f"{path}: {size:,} bytes, but {HEADER.size + count * item_bytes:,} expected: the shard is truncated. Prepare it again"
        )
    if found.hex() != fingerprint:
        raise DataError(
            f"{path}: made with another tokenizer ({found.hex()[:8]}…) than this corpus's ({fingerprint[:8]}…). Prepare it again"
        )
    if any(head[-RESERVED_BYTES:]) or not count:
        what = "holds no ids" if not count else "has a damaged header: its last bytes must be zero"
        raise DataError(f"{path}: this shard {what}. Prepare it again")
    dtype = np.dtype("<u2" if item_bytes == 2 else "<u4")
    return np.memmap(path, dtype=dtype, mode="r", offset=HEADER.size, shape=(count,))


def is_corpus(folder: Path) -> bool:
    """Whether `folder` holds a prepared corpus (see corpus.py)."""
    return (folder / INFO).is_file()


class ShardReader:
    """The ids of a sound shard, read where they are asked for: mapped pages would count as memory of a process that passes by once."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        """Raises: DataError as `open_shard`."""
        mapped = open_shard(path, fingerprint)
        self.path, self.dtype, self._length = path, mapped.dtype, len(mapped)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: slice) -> NDArray[np.generic]:
        start, stop, _ = place.indices(self._length)
        offset = HEADER.size + start * self.dtype.itemsize
        return np.fromfile(self.path, dtype=self.dtype, count=max(0, stop - start), offset=offset)


def verify_files(folder: Path, shards: Sequence[str], progress: Callable[[str, int, int], None]) -> None:
    """Compare a corpus with its manifest, to the last file; its `shards` must stand there. Raises: DataError naming what differs."""
    if not (folder / MANIFEST).is_file():
        raise DataError(f"{folder}: {MANIFEST} is missing, so nobody knows whether this corpus is whole. Prepare it again")
    hashes = read_json(folder / MANIFEST)
    hashes = {**dict.fromkeys(shards), **(hashes if isinstance(hashes, dict) else {})}
    if missing := [name for name in hashes if not (folder / name).is_file()]:
        raise DataError(f"{folder / missing[0]}: is missing, though {MANIFEST} lists it. Copy it again, or prepare the corpus again")
    sizes = {name: (folder / name).stat().st_size for name in hashes}
    done = 0
    for name, size in sizes.items():
        progress("checking", done, sum(sizes.values()))
        found, expected = sha256_of_file(folder / name), hashes[name]
        if found != expected:
            raise DataError(
                f"{folder / name}: this {'shard' if name in shards else 'file'} does not match {MANIFEST} (SHA-256 {found[:8]}…, expected "
                f"{str(expected)[:8]}…), so it is damaged or another corpus's. Copy it again, or prepare the corpus again"
            )
        done += size


class TokenArray:
    """Several arrays of ids, read as one long one."""

    def __init__(self, parts: Sequence[NDArray[np.generic] | ShardReader]) -> None:
        self.parts = [part for part in parts if len(part)]
        self.ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self.ends[-1]) if self.parts else 0

    def read(self, start: int, length: int) -> NDArray[np.int64]:
        """(length,) ids from `start` on, across the borders of parts."""
        pieces = []
        part = int(np.searchsorted(self.ends, start, side="right"))
        while length > 0:
            offset = start - (int(self.ends[part - 1]) if part else 0)
            piece = self.parts[part][offset : offset + length]
            pieces.append(piece)
            start, length, part = start + len(piece), length - len(piece), part + 1
        return np.concatenate(pieces).astype(np.int64)
