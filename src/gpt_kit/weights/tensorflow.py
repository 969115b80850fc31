"""TensorFlow checkpoints ("tensor bundles"), read without TensorFlow.

`PREFIX.index` is a LevelDB table: blocks of sorted keys that share prefixes, and a 48-byte footer that says where the block of
blocks lies. Key "" holds a BundleHeaderProto; every other key is a variable and holds a BundleEntryProto: dtype, shape, shard,
offset, size, CRC-32C. `PREFIX.data-00000-of-00001` is the tensors' bytes. Blocks and tensors are checked against their CRC.
Sources: leveldb doc/table_format.md; tensorflow/core/protobuf/tensor_bundle.proto and core/lib/io/table_builder.cc.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpt_kit.errors import CheckpointError
from gpt_kit.weights.crc32c import crc32c, unmask

MAGIC = 0xDB4775248B80FB57
FOOTER_BYTES, TRAILER_BYTES = 48, 5
DTYPES = {1: torch.float32, 2: torch.float64, 14: torch.bfloat16, 19: torch.float16}  # tensorflow/core/framework/types.proto
Message = dict[int, list[int | bytes]]


@dataclass(frozen=True, slots=True)
class Variable:
    """Where one variable lies."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size_bytes: int
    masked_crc32c: int
    partitioned: bool


@dataclass(frozen=True, slots=True)
class Bundle:
    """A checkpoint's table of contents."""

    prefix: Path
    num_shards: int
    variables: dict[str, Variable]

    def read(self, name: str) -> Tensor:
        """One variable. Raises: CheckpointError when its bytes are missing or damaged, or its type is not floating-point."""
        entry = self.variables[name]
        file = self.prefix.with_name(f"{self.prefix.name}.data-{entry.shard:05d}-of-{self.num_shards:05d}")
        if entry.partitioned or entry.dtype not in DTYPES:
            kind = "partitioned" if entry.partitioned else f"of TensorFlow type {entry.dtype}"
            raise CheckpointError(f"{self.prefix}: {name} is {kind}; gpt-kit reads whole float variables. Save the checkpoint again")
        dtype = DTYPES[entry.dtype]
        if math.prod(entry.shape) * dtype.itemsize != entry.size_bytes:
            raise CheckpointError(f"{self.prefix}.index: {name} has shape {entry.shape} but {entry.size_bytes} bytes. The file is damaged")
        if not file.is_file() or file.stat().st_size < entry.offset + entry.size_bytes:
            raise CheckpointError(
                f"{file}: missing or cut short; {name} needs {entry.offset + entry.size_bytes:,} bytes. Download it again"
            )
        data = np.fromfile(file, dtype=np.uint8, count=entry.size_bytes, offset=entry.offset)
        if crc32c(data) != unmask(entry.masked_crc32c):
            raise CheckpointError(f"{file}: the bytes of {name} do not match their checksum. The file is damaged; download it again")
        return torch.from_numpy(data).view(dtype).reshape(entry.shape)


def open_bundle(prefix: Path) -> Bundle:
    """Read `PREFIX.index`. Raises: CheckpointError when it is missing, damaged, compressed, or not such a table."""
    file = prefix.with_name(prefix.name + ".index")
    try:
        table = file.read_bytes()
    except OSError:
        raise CheckpointError(f"{file}: cannot be read; it is the checkpoint's table of contents. Download it again") from None
    try:
        entries = dict(_table_entries(table, file))
        header = _decode(entries.pop(b""))
        variables = {key.decode(): _variable(_decode(value)) for key, value in entries.items()}
    except (IndexError, KeyError, ValueError, TypeError, struct.error) as error:
        raise CheckpointError(f"{file}: not a sound table of a TensorFlow checkpoint ({error}). Download it again") from None
    if _number(header, 2):
        raise CheckpointError(f"{file}: written on a big-endian machine, which gpt-kit does not read. Save it again on another")
    return Bundle(prefix, _number(header, 1), variables)


def _variable(message: Message) -> Variable:
    shape = [_number(_decode(dimension), 1) for dimension in _messages(_message(message, 2), 2)]
    return Variable(
        dtype=_number(message, 1),
        shape=tuple(shape),
        shard=_number(message, 3),
        offset=_number(message, 4),
        size_bytes=_number(message, 5),
        masked_crc32c=_number(message, 6),
        partitioned=7 in message,
    )


# --- the LevelDB table ---


def _table_entries(table: bytes, file: Path) -> Iterator[tuple[bytes, bytes]]:
    """Every key and value of the table, in order."""
    if len(table) < FOOTER_BYTES or struct.unpack("<Q", table[-8:])[0] != MAGIC:
        raise CheckpointError(f"{file}: does not end as a TensorFlow checkpoint's index does (cut short, or something else)")
    at = len(table) - FOOTER_BYTES
    for _ in range(2):  # the metaindex block, which TensorFlow leaves empty
        _, at = _varint(table, at)
    index_block, _ = _handle(table, at)
    for _, handle in _block_entries(_block(table, *index_block, file)):
        block, _ = _handle(handle, 0)
        yield from _block_entries(_block(table, *block, file))


def _block(table: bytes, offset: int, size: int, file: Path) -> bytes:
    stored = table[offset : offset + size + TRAILER_BYTES]
    if len(stored) != size + TRAILER_BYTES:
        raise CheckpointError(f"{file}: a block lies outside the file. The file is damaged; download it again")
    if crc32c(stored[: size + 1]) != unmask(struct.unpack("<I", stored[size + 1 :])[0]):
        raise CheckpointError(f"{file}: a block does not match its checksum. The file is damaged; download it again")
    if stored[size]:
        raise CheckpointError(
            f"{file}: its blocks are compressed (snappy), which TensorFlow's Saver never does. Save it again with a Saver"
        )
    return stored[:size]


def _block_entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Key and value pairs. A key repeats only what differs from the key before; the restart array at the end is not needed."""
    num_restarts = struct.unpack("<I", block[-4:])[0]
    end, at, key = len(block) - 4 * (num_restarts + 1), 0, b""
    while at < end:
        shared, at = _varint(block, at)
        fresh, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + fresh]
        yield key, block[at + fresh : at + fresh + length]
        at += fresh + length


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return (offset, size), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number in 7-bit groups, lowest first, and the position after it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


# --- protocol buffers: a message is (field number, wire type) and a value, repeated ---


def _decode(data: bytes) -> Message:
    message: Message = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value: int | bytes
        if tag & 7 == 0:
            value, at = _varint(data, at)
        elif tag & 7 == 2:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        elif tag & 7 == 5:
            value, at = struct.unpack_from("<I", data, at)[0], at + 4
        else:
            raise ValueError(f"wire type {tag & 7} in a protocol buffer")
        message.setdefault(tag >> 3, []).append(value)
    return message


def _number(message: Message, field: int) -> int:
    """The field's number; 0 where it is absent, as protocol buffers have it."""
    value = message.get(field, [0])[-1]
    if not isinstance(value, int) or value >= 1 << 63:
        raise ValueError(f"field {field} of a protocol buffer should be a number of 63 bits")
    return value


def _messages(message: Message, field: int) -> list[bytes]:
    values = message.get(field, [])
    if any(isinstance(value, int) for value in values):  # bytes(n) would be n zeros
        raise ValueError(f"field {field} of a protocol buffer should be a message")
    return [value for value in values if isinstance(value, bytes)]


def _message(message: Message, field: int) -> Message:
    return _decode(b"".join(_messages(message, field)))
