"""GPT-2's TensorFlow files. The fixture was written by TensorFlow 2.21 (fixtures/write_gpt2_tensorflow.py)."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gpt_kit.config import create_model_config
from gpt_kit.errors import CheckpointError
from gpt_kit.weights import load_weights, parameter_shapes, tensorflow
from gpt_kit.weights.crc32c import crc32c
from gpt_kit.weights.tensorflow import open_bundle

FIXTURE = Path(__file__).parent / "fixtures" / "gpt2-tensorflow"
V, P, C, H, L = 13, 7, 6, 2, 2


def written(name: str, *shape: int) -> Tensor:
    """The values that the fixture's script gave this variable."""
    count = int(np.prod(shape))
    values = (np.arange(count) * 37 + zlib.crc32(name.encode())) % 1009 / 1024
    return torch.tensor(values.astype(np.float32)).reshape(shape)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(FIXTURE, tmp_path / "124M")
    return tmp_path / "124M"


def test_a_checkpoint_of_tensorflow_is_read_without_it() -> None:
    """Every parameter once, values and orientation, among them both kinds of (C, C) and (C, 4C) matrices."""
    weights = load_weights(FIXTURE)
    assert weights.config == create_model_config("gpt2", vocab_size=V, max_position_embeddings=P, n_embd=C, n_head=H, n_layer=L)
    assert {name: tuple(tensor.shape) for name, tensor in weights.tensors.items()} == parameter_shapes(weights.config)
    expected = {
        "token_embedding.weight": written("model/wte", V, C),
        "position_embedding.weight": written("model/wpe", P, C),
        "final_norm.weight": written("model/ln_f/g", C),
        "final_norm.bias": written("model/ln_f/b", C),
    }
    for i in range(L):
        ours, theirs = f"blocks.{i}", f"model/h{i}"
        for norm, name in (("attention_norm", "ln_1"), ("feed_forward_norm", "ln_2")):
            expected[f"{ours}.{norm}.weight"] = written(f"{theirs}/{name}/g", C)
            expected[f"{ours}.{norm}.bias"] = written(f"{theirs}/{name}/b", C)
        for layer, name, size_in, size_out in (
            ("attention.qkv", "attn/c_attn", C, 3 * C),
            ("attention.projection", "attn/c_proj", C, C),
            ("feed_forward.expand", "mlp/c_fc", C, 4 * C),
            ("feed_forward.contract", "mlp/c_proj", 4 * C, C),
        ):
            expected[f"{ours}.{layer}.weight"] = written(f"{theirs}/{name}/w", size_in, size_out).T
            expected[f"{ours}.{layer}.bias"] = written(f"{theirs}/{name}/b", size_out)
    assert expected.keys() == weights.tensors.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(tensor, weights.tensors[name])] == []


def test_what_training_left_in_the_file_is_there_and_is_ignored() -> None:
    """The control: the fixture does hold a counter, a schedule's power and an optimizer slot."""
    extra = {"global_step", "beta1_power", "model/wte/Adam", "ema/half", "ema/brain"}
    variables = open_bundle(FIXTURE / "model.ckpt").variables
    assert extra < variables.keys()
    assert len(variables) - len(extra) == len(load_weights(FIXTURE).tensors)


def test_both_half_precisions_and_a_counter_are_told_apart() -> None:
    bundle = open_bundle(FIXTURE / "model.ckpt")
    half, brain = bundle.read("ema/half"), bundle.read("ema/brain")
    assert (half.dtype, brain.dtype) == (torch.float16, torch.bfloat16)
    assert half.tolist() == brain.tolist() == [[0, 0.5, 1], [1.5, 2, 2.5]]
    with pytest.raises(CheckpointError, match="global_step is of TensorFlow type 9"):
        bundle.read("global_step")


def test_a_variable_of_the_network_that_we_do_not_know_is_an_error(folder: Path) -> None:
    """With n_layer 1 the second block is unknown; it must not pass for left-overs of training."""
    (folder / "hparams.json").write_text(json.dumps({"n_vocab": V, "n_ctx": P, "n_embd": C, "n_head": H, "n_layer": 1}))
    with pytest.raises(CheckpointError, match=r"28 tensors, expected 16: model/h1/\S+, model/h1/\S+, model/h1/\S+ and 9 more unknown"):
        load_weights(folder)


def test_sizes_are_compared_with_hparams(folder: Path) -> None:
    (folder / "hparams.json").write_text(json.dumps({"n_vocab": V + 1, "n_ctx": P, "n_embd": C, "n_head": H, "n_layer": L}))
    with pytest.raises(CheckpointError, match=r"model/wte has shape \(13, 6\), but the config asks for \(14, 6\)"):
        load_weights(folder)
    (folder / "hparams.json").write_text(json.dumps({"n_vocab": V, "n_ctx": P}))
    with pytest.raises(CheckpointError, match=r"n_embd, n_head, n_layer missing"):
        load_weights(folder)


def test_the_file_checkpoint_chooses_among_several(folder: Path) -> None:
    """It may hold a path of another machine; only the last part counts. Without it one checkpoint is no riddle, two are."""
    (folder / "checkpoint").unlink()
    assert load_weights(folder).config.vocab_size == V
    for file in list(folder.glob("model.ckpt.*")):
        shutil.copy(file, folder / file.name.replace("model.ckpt", "model-2"))
    (folder / "model.ckpt.index").write_bytes(b"not a table")
    with pytest.raises(CheckpointError, match=r"which checkpoint to read is unclear.*model-2, model\.ckpt"):
        load_weights(folder)
    (folder / "checkpoint").write_text('model_checkpoint_path: "/home/someone/run1/model-2"\n')
    assert load_weights(folder).config.vocab_size == V


def test_one_flipped_bit_in_any_parameter_is_noticed(folder: Path) -> None:
    file = folder / "model.ckpt.data-00000-of-00001"
    sound = file.read_bytes()
    for name, variable in open_bundle(folder / "model.ckpt").variables.items():
        if name.startswith("model/") and not name.endswith("/Adam"):
            at = variable.offset + variable.size_bytes // 2
            file.write_bytes(sound[:at] + bytes([sound[at] ^ 8]) + sound[at + 1 :])
            with pytest.raises(CheckpointError, match=f"the bytes of {name} do not match their checksum"):
                load_weights(folder)


def test_one_flipped_bit_anywhere_in_the_table_of_contents_is_an_error_or_harmless(folder: Path) -> None:
    """Never another exception, never other weights. Unseen may only change what is not read: an empty block and the padding."""
    file = folder / "model.ckpt.index"
    sound, expected = file.read_bytes(), load_weights(folder).tensors
    refused = 0
    for at in range(len(sound)):
        file.write_bytes(sound[:at] + bytes([sound[at] ^ 16]) + sound[at + 1 :])
        try:
            found = load_weights(folder).tensors
        except CheckpointError:
            refused += 1
        else:
            assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    assert refused >= len(sound) - 48 - 13  # the footer; TensorFlow's empty metaindex block and its trailer


def test_a_table_of_contents_made_to_mislead_is_an_error_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage that the checksums agree with, as somebody could make it: 400 random changes, and never another exception."""
    monkeypatch.setattr(tensorflow, "crc32c", lambda _: 0)
    monkeypatch.setattr(tensorflow, "unmask", lambda _: 0)
    file, random, refused = folder / "model.ckpt.index", np.random.default_rng(2), 0
    sound = file.read_bytes()
    for _ in range(400):
        table = bytearray(sound)
        table[random.integers(len(table))] = random.integers(256)
        file.write_bytes(bytes(table))
        try:
            load_weights(folder)
        except CheckpointError:
            refused += 1
    assert refused > 100


def test_a_number_where_a_message_belongs_is_refused_and_not_allocated() -> None:
    """bytes(n) of a hostile n would be n zeros: 16 exabytes here."""
    with pytest.raises(ValueError, match="should be a message"):
        tensorflow._variable({2: [1 << 62]})


@pytest.mark.parametrize("keep", [0, 10, 47, 48, 500])
def test_a_table_of_contents_that_was_cut_short_is_an_error(folder: Path, keep: int) -> None:
    file = folder / "model.ckpt.index"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"does not end as a TensorFlow checkpoint's index does"):
        load_weights(folder)


def test_missing_files_are_named(folder: Path) -> None:
    data = folder / "model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-400])
    with pytest.raises(CheckpointError, match="data-00000-of-00001: missing or cut short"):
        load_weights(folder)
    (folder / "model.ckpt.index").unlink()
    with pytest.raises(CheckpointError, match=r"\*\.index are none"):
        load_weights(folder)


def test_a_compressed_block_is_refused_by_name(folder: Path) -> None:
    """The type byte says snappy and the checksum agrees: no damage, but nothing we can read."""
    file = folder / "model.ckpt.index"
    table = bytearray(file.read_bytes())
    size = 1  # of the data block, which comes first: where its checksum fits
    while crc_of_block(table, size) != struct.unpack("<I", table[size + 1 : size + 5])[0]:
        size += 1
    table[size] = 1
    table[size + 1 : size + 5] = struct.pack("<I", crc_of_block(table, size))
    file.write_bytes(bytes(table))
    with pytest.raises(CheckpointError, match="compressed"):
        load_weights(folder)


def crc_of_block(table: bytearray, size: int) -> int:
    crc = crc32c(bytes(table[: size + 1]))
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
