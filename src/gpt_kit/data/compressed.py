"""A file as a stream of bytes, whether it lies there plain, as .gz or as .zst.

Nothing is unpacked onto the disk or into memory as a whole, except where a reader must seek (parquet): that copy is a temporary
file without a name. An archive that was cut off is an error and never the end of the text.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from gpt_kit.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from zstandard import ZstdDecompressionObj

COMPRESSIONS = (".gz", ".zst")
_CHUNK_BYTES = 512
"""Fed to zstd at a time. A block of ten bytes may unpack to 128 KiB, so more would unpack a repetitive text as a whole.
Measured on 41 MB of English words, one core: 440 MB/s; with 16 KiB 720 MB/s."""
_WIDEST_ZSTD_WINDOW = 1 << 31
"""Bytes. `zstd --long=31`, which public corpora are packed with; the package refuses it unless asked."""


def without_compression(path: Path) -> Path:
    """`a.jsonl.gz` -> `a.jsonl`: the name whose suffix says what is inside."""
    return path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path


@contextlib.contextmanager
def open_decompressed(path: Path, *, seekable: bool = False) -> Iterator[BinaryIO]:
    """The content of `path`, unpacked while it is read.

    Raises: DataError naming the file when it cannot be opened, or an archive is damaged or cut off, also while it is being read.
    MissingExtraError for .zst without the package `zstandard`.
    """
    try:
        with contextlib.ExitStack() as stack:
            stream: BinaryIO = stack.enter_context(open(path, "rb"))
            if path.suffix.lower() == ".gz":
                stream = cast(BinaryIO, stack.enter_context(gzip.open(stream, "rb")))
            elif path.suffix.lower() == ".zst":
                stream = cast(BinaryIO, stack.enter_context(io.BufferedReader(_ZstdStream(stream))))
            if seekable and path.suffix.lower() in COMPRESSIONS:
                unpacked = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(stream, unpacked)
                unpacked.seek(0)
                stream = cast(BinaryIO, unpacked)
            yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the archive is damaged or incomplete ({error}). Copy or download it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def skip_bytes(stream: BinaryIO, count: int, path: Path) -> None:
    """Pass over the first `count` bytes of the content of `path`. Raises: DataError where there are fewer."""
    if not count:  # a pipe cannot seek
        return
    if path.suffix.lower() not in COMPRESSIONS:
        missing = max(0, count - path.stat().st_size)
        stream.seek(count)
    else:
        missing = count
        while missing and (passed := stream.read(min(missing, 1 << 20))):
            missing -= len(passed)
    if missing:
        raise DataError(f"{path}: is shorter than it was when its reading began. Begin anew")


class _ZstdStream(io.RawIOBase):
    """The bytes of all frames of a .zst file. The package's own reader takes a cut-off file for a finished one; this does not."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            import zstandard
        except ImportError:
            raise MissingExtraError("zstandard", "zstd", "reading .zst files") from None
        self._file = file
        self._new_frame = zstandard.ZstdDecompressor(max_window_size=_WIDEST_ZSTD_WINDOW).decompressobj
        self._error = zstandard.ZstdError
        self._frame: ZstdDecompressionObj | None = None
        self._packed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        while not self._ready:
            packed = self._packed or self._file.read(_CHUNK_BYTES)
            if not packed and self._frame is None:
                return 0
            if not packed:
                raise EOFError("it ends inside a frame")
            frame = self._frame or self._new_frame()
            try:
                self._ready = memoryview(frame.decompress(packed))
            except self._error as error:
                raise EOFError(str(error)) from None
            self._frame, self._packed = (None, frame.unused_data) if frame.eof else (frame, b"")
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._ready))
        target[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count
