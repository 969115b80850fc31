"""Token shards: what is written is read, across borders; what is damaged, foreign or of another tokenizer is refused by name."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_kit.data import ShardWriter, TokenArray, open_shard
from gpt_kit.errors import DataError

FINGERPRINT, OTHER = "ab" * 32, "cd" * 32
PER_SHARD = 7


def write(folder: Path, vocab_size: int, pieces: list[list[int]], fingerprint: str = FINGERPRINT) -> ShardWriter:
    writer = ShardWriter(folder, "train", vocab_size, fingerprint, tokens_per_shard=PER_SHARD)
    for piece in pieces:
        writer.write(piece)
    writer.close()
    return writer


def open_all(folder: Path, writer: ShardWriter) -> TokenArray:
    return TokenArray([open_shard(folder / name, FINGERPRINT) for name in writer.shards])


@pytest.mark.parametrize("vocab_size", [100, 2**16, 2**16 + 1, 200_000])
@pytest.mark.parametrize("sizes", [[1], [7], [8], [3, 4], [3, 5], [20, 0, 1], [7, 7, 7], [2] * 11])
def test_what_is_written_is_read(tmp_path: Path, vocab_size: int, sizes: list[int]) -> None:
    """Whatever the sizes of the pieces, up to the largest id of the vocabulary (2 bytes an id as long as they suffice)."""
    ids = [(i * 7919 + vocab_size - 1) % vocab_size for i in range(sum(sizes))]
    assert max(ids) == vocab_size - 1
    starts = np.cumsum([0, *sizes])
    writer = write(tmp_path, vocab_size, [ids[a:b] for a, b in zip(starts, starts[1:], strict=False)])
    assert writer.num_tokens == len(ids)
    assert writer.shards == [f"train-{i:05d}.tokens" for i in range(-(-len(ids) // PER_SHARD))]
    item_bytes = 2 if vocab_size <= 2**16 else 4
    size = sum((tmp_path / name).stat().st_size for name in writer.shards)
    assert size == 64 * len(writer.shards) + item_bytes * len(ids)
    tokens = open_all(tmp_path, writer)
    assert len(tokens) == len(ids)
    assert tokens.read(0, len(ids)).tolist() == ids
    assert tokens.read(0, len(ids)).dtype == np.int64


def test_every_stretch_reads_right_across_borders(tmp_path: Path) -> None:
    ids = list(range(1, 24))  # 7 + 7 + 7 + 2
    tokens = open_all(tmp_path, write(tmp_path, 100, [ids]))
    for start in range(len(ids)):
        for length in range(1, len(ids) - start + 1):
            assert tokens.read(start, length).tolist() == ids[start : start + length]


def test_nothing_written_makes_no_shard(tmp_path: Path) -> None:
    assert write(tmp_path, 100, [[], []]).shards == []
    assert len(TokenArray([])) == 0


def test_an_open_shard_cannot_be_written_to(tmp_path: Path) -> None:
    write(tmp_path, 100, [[1, 2, 3]])
    shard = open_shard(tmp_path / "train-00000.tokens", FINGERPRINT)
    assert isinstance(shard, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        shard[0] = 9


def damaged(folder: Path, change: str) -> Path:
    write(folder, 100, [[1, 2, 3]])
    path = folder / "train-00000.tokens"
    data = path.read_bytes()
    if change == "missing":
        path.unlink()
    elif change == "one byte short":
        path.write_bytes(data[:-1])
    elif change == "one byte long":
        path.write_bytes(data + b"\0")
    elif change == "header only half":
        path.write_bytes(data[:40])
    elif change == "empty":
        path.write_bytes(b"")
    elif change == "foreign":
        path.write_bytes(b"PK\3\4" + data[4:])
    elif change == "later version":
        path.write_bytes(data[:8] + struct.pack("<I", 9) + data[12:])
    elif change == "never closed":  # the count is written on closing
        path.write_bytes(data[:16] + struct.pack("<Q", 0) + data[24:])
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("missing", "this shard of the corpus is missing"),
        ("one byte short", "the shard is truncated"),
        ("one byte long", "70 expected"),
        ("header only half", "not a shard of gpt-kit"),
        ("empty", "not a shard of gpt-kit"),
        ("foreign", "not a shard of gpt-kit"),
        ("later version", "shard format 9"),
        ("never closed", "64 expected"),
    ],
)
def test_a_damaged_shard_is_refused_by_name(tmp_path: Path, change: str, said: str) -> None:
    path = damaged(tmp_path, change)
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        open_shard(path, FINGERPRINT)
    assert str(path) in str(caught.value)


def test_a_shard_of_another_tokenizer_is_refused_with_both_fingerprints(tmp_path: Path) -> None:
    write(tmp_path, 100, [[1, 2, 3]], OTHER)
    with pytest.raises(DataError, match=r"another tokenizer \(cdcdcdcd…\) than this corpus's \(abababab…\)"):
        open_shard(tmp_path / "train-00000.tokens", FINGERPRINT)


def test_an_id_that_does_not_fit_is_not_wrapped_around(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "train", 2**16, FINGERPRINT)
    with pytest.raises(OverflowError):
        writer.write([2**16])
    writer.close()


@given(st.binary(min_size=0, max_size=80), st.integers(0, 63))
def test_no_header_leads_to_another_error(tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int) -> None:
    """Whatever stands in the first 64 bytes: the shard opens, or is refused by name."""
    folder = tmp_path_factory.mktemp("shard")
    write(folder, 100, [[1, 2, 3]])
    path = folder / "train-00000.tokens"
    whole = path.read_bytes()
    for content in (whole[:at] + noise + whole[at + len(noise) :], noise, whole[:at]):
        path.write_bytes(content)
        try:
            opened = open_shard(path, FINGERPRINT)
        except DataError as error:
            assert str(path) in str(error)
        else:
            assert content[:64] == whole[:64] and len(opened) == 3


@pytest.mark.parametrize("at", [11, 30, 60, 63])
def test_every_field_of_the_header_is_checked(tmp_path: Path, at: int) -> None:
    write(tmp_path, 100, [[1, 2, 3]])
    path = tmp_path / "train-00000.tokens"
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=re.escape(str(path))):
        open_shard(path, FINGERPRINT)


@pytest.mark.parametrize("sizes", [[3, 5], [7, 7], [20]])
def test_writing_goes_on_behind_what_is_kept(tmp_path: Path, sizes: list[int]) -> None:
    """At every token, with more written behind it by somebody who was killed before the header was: the same files."""
    ids = list(range(1, sum(sizes) + 1))
    (tmp_path / "whole").mkdir()
    write(tmp_path / "whole", 100, [ids])
    for keep in range(1, len(ids) + 1):
        folder = tmp_path / str(keep)
        folder.mkdir()
        killed = ShardWriter(folder, "train", 100, FINGERPRINT, tokens_per_shard=PER_SHARD)
        killed.write(ids[:keep])
        killed.write([99] * (keep * 5 % 17))
        killed.flush()
        if killed._file is not None:
            killed._file.close()
        again = ShardWriter(folder, "train", 100, FINGERPRINT, tokens_per_shard=PER_SHARD, keep=keep)
        again.write(ids[keep:])
        again.close()
        found = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert found == {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
