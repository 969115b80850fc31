"""A GGUF file, read back by the package `gguf` tensor by tensor; names are compared with its own table for transformers' names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor

from gpt_kit.config import ModelConfig
from gpt_kit.errors import CheckpointError, ConfigError, DiskFullError, TokenizerError
from gpt_kit.tokenizers import Tokenizer, chat_tokenizer, load_tokenizer, train_tokenizer
from gpt_kit.weights import ClassificationHead, Weights
from gpt_kit.weights.gguf import write_gguf
from gpt_kit.weights.gguf_vocabulary import CONTROL, NORMAL, UNUSED, USER_DEFINED, GGUFVocabulary, gguf_vocabulary
from gpt_kit.weights.names import published_name

Make = Callable[..., Weights]


@pytest.fixture
def make(config_of: Callable[..., ModelConfig], tensors_of: Callable[[ModelConfig], dict[str, Tensor]]) -> Make:
    """Random weights of V=61, P=11, C=96, H=3, L=2, I=160, which q8_0 can pack, with changes by keyword."""

    def of(**changes: Any) -> Weights:
        config = config_of(**{"n_embd": 96, "n_inner": 160, **changes})
        return Weights(config, tensors_of(config))

    return of


@pytest.fixture
def letters() -> GGUFVocabulary:
    return GGUFVocabulary(
        tokens=[f"t{i}" for i in range(61)],
        types=[NORMAL] * 61,
        merges=["t 1"],
        begin_of_text_id=59,
        end_of_text_id=60,
        chat_template="{{ messages }}",
    )


def vocabulary_of(tokenizer: Tokenizer, vocab_size: int | None = None) -> GGUFVocabulary:
    return gguf_vocabulary(tokenizer.document(), vocab_size or tokenizer.vocab_size, end_of_text_id=tokenizer.end_of_text_id)


def read(path: Path) -> tuple[dict[str, Any], dict[str, gguf.ReaderTensor]]:
    reader = gguf.GGUFReader(path)
    return {key: field.contents() for key, field in reader.fields.items()}, {tensor.name: tensor for tensor in reader.tensors}


@pytest.mark.parametrize("kind", ["f32", "f16", "q8_0"])
@pytest.mark.parametrize("tied", [True, False])
def test_every_tensor_is_there_under_the_name_and_in_the_type_of_llama_cpp(
    make: Make, letters: GGUFVocabulary, tmp_path: Path, kind: Any, tied: bool
) -> None:
    """f32 to the bit, f16 rounded once, q8_0 within half a step of the largest number of its 32."""
    weights = make(tie_word_embeddings=tied)
    size = write_gguf(tmp_path / "a.gguf", weights, letters, kind=kind)
    assert size == (tmp_path / "a.gguf").stat().st_size
    _, found = read(tmp_path / "a.gguf")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, 2)
    assert len(found) == len(weights.tensors)
    for kit_name, tensor in weights.tensors.items():
        published = published_name(kit_name, "gpt2")
        name = names.get_name(published if published.startswith("lm_head") else f"transformer.{published}", (".weight", ".bias"))
        matrix = tensor.ndim == 2 and kit_name != "position_embedding.weight"
        assert found[name].tensor_type.name == (kind.upper() if matrix else "F32"), name
        got = gguf.dequantize(found[name].data, found[name].tensor_type)
        assert got.shape == tensor.shape, name
        expected = tensor.numpy()
        if not matrix or kind == "f32":
            assert np.array_equal(got, expected), name
        elif kind == "f16":
            assert np.array_equal(got, expected.astype(np.float16).astype(np.float32)), name
        else:
            step = np.abs(expected.reshape(-1, 32)).max(axis=1, keepdims=True) / 127
            assert (np.abs(got - expected).reshape(-1, 32) <= 0.51 * step + 127 * step * 2**-11).all(), name


def test_the_settings_say_what_the_model_is(make: Make, letters: GGUFVocabulary, tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", make(layer_norm_epsilon=1e-6), letters, kind="q8_0", name="story")
    settings, _ = read(tmp_path / "a.gguf")
    expected = {
        "general.architecture": "gpt2", "general.name": "story", "general.file_type": gguf.LlamaFileType.MOSTLY_Q8_0,
        "gpt2.context_length": 11, "gpt2.embedding_length": 96, "gpt2.block_count": 2, "gpt2.feed_forward_length": 160,
        "gpt2.attention.head_count": 3, "gpt2.attention.layer_norm_epsilon": np.float32(1e-6),
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.tokens": letters.tokens,
        "tokenizer.ggml.token_type": letters.types, "tokenizer.ggml.merges": letters.merges, "tokenizer.ggml.bos_token_id": 59,
        "tokenizer.ggml.eos_token_id": 60, "tokenizer.ggml.add_bos_token": False, "tokenizer.chat_template": "{{ messages }}",
    }  # fmt: skip
    assert {key: settings[key] for key in expected} == expected


def test_a_missing_qkv_bias_is_written_as_zeros(make: Make, letters: GGUFVocabulary, tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", make(qkv_bias=False), letters)
    _, found = read(tmp_path / "a.gguf")
    for block in range(2):
        bias = found[f"blk.{block}.attn_qkv.bias"].data
        assert bias.shape == (288,) and not bias.any()


def test_rotary_positions_and_scaled_embeddings_have_a_head_of_their_own(make: Make, letters: GGUFVocabulary, tmp_path: Path) -> None:
    weights = make(position_embedding="rotary", scale_embeddings=True)
    write_gguf(tmp_path / "a.gguf", weights, letters, kind="f32")
    settings, found = read(tmp_path / "a.gguf")
    assert settings["general.architecture"] == "gptneox"
    assert (settings["gptneox.rope.dimension_count"], settings["gptneox.rope.freq_base"]) == (32, 10_000)
    assert settings["gptneox.use_parallel_residual"] is False
    embedding = weights.tensors["token_embedding.weight"]
    assert np.array_equal(found["output.weight"].data, embedding.numpy())
    assert np.array_equal(found["token_embd.weight"].data, (embedding * 96**0.5).numpy())
    assert "position_embd.weight" not in found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"norm": "post"}, "LayerNorm after each layer"),
        ({"position_embedding": "sinusoidal"}, "sinusoidal positions"),
        ({"n_embd": 24, "n_inner": 40}, "rows of 24, but q8_0 packs them by 32"),
        ({"n_inner": 40}, "rows of 40, but q8_0 packs them by 32"),
        ({"vocab_size": 60}, "has 61 entries, but the model has 60"),
    ],
)
def test_what_gguf_cannot_hold_is_refused_in_one_line(
    make: Make, letters: GGUFVocabulary, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(CheckpointError, match=said) as caught:
        write_gguf(tmp_path / "a.gguf", make(**changes), letters, kind="q8_0")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_classifier_and_an_unknown_type_are_refused(make: Make, letters: GGUFVocabulary, tmp_path: Path) -> None:
    labelled = dataclasses.replace(make(), classification=ClassificationHead(("a", "b"), torch.zeros(2, 96), None))
    with pytest.raises(CheckpointError, match="a head that scores labels"):
        write_gguf(tmp_path / "a.gguf", labelled, letters)
    with pytest.raises(ConfigError, match="unknown type 'q4_0'"):
        write_gguf(tmp_path / "a.gguf", make(), letters, kind="q4_0")  # type: ignore[arg-type]


@pytest.mark.parametrize(("value", "kind", "said"), [(7e4, "f16", "Take --type f32"), (float("nan"), "f32", "broken")])
def test_numbers_that_would_not_come_out_again_are_refused(
    make: Make, letters: GGUFVocabulary, tmp_path: Path, value: float, kind: Any, said: str
) -> None:
    weights = make()
    weights.tensors["blocks.1.attention.qkv.weight"][3, 5] = value
    with pytest.raises(CheckpointError, match=rf"blk\.1\.attn_qkv\.weight: holds .*{said}"):
        write_gguf(tmp_path / "a.gguf", weights, letters, kind=kind)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_file_that_was_there(
    make: Make, letters: GGUFVocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.gguf").write_text("old")
    monkeypatch.setattr("gpt_kit.files.free_bytes", lambda _: 1000)
    with pytest.raises(DiskFullError, match="bytes needed, 1,000 bytes free"):
        write_gguf(tmp_path / "a.gguf", make(), letters)
    monkeypatch.undo()
    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(DiskFullError):
        write_gguf(tmp_path / "a.gguf", make(), letters)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.gguf", "old")]


def test_gpt2s_vocabulary_is_the_published_one_with_the_chat_marks() -> None:
    tokenizer = chat_tokenizer(load_tokenizer("gpt2"))
    vocabulary = vocabulary_of(tokenizer)
    assert len(vocabulary.tokens) == 50259 and len(vocabulary.merges) == 50000
    assert (vocabulary.tokens[262], vocabulary.tokens[198], vocabulary.merges[0]) == ("Ġthe", "Ċ", "Ġ t")
    assert vocabulary.tokens[50256:] == ["<|endoftext|>", "<|user|>", "<|assistant|>"]
    assert vocabulary.types == [NORMAL] * 50256 + [CONTROL] * 3
    assert vocabulary.begin_of_text_id == vocabulary.end_of_text_id == 50256


def test_ids_that_the_tokenizer_leaves_free_are_unused_tokens() -> None:
    vocabulary = vocabulary_of(load_tokenizer("byte"), 260)
    assert (len(vocabulary.tokens), vocabulary.types[255:]) == (260, [NORMAL, CONTROL, UNUSED, UNUSED, UNUSED])
    assert len(set(vocabulary.tokens)) == 260
    with pytest.raises(TokenizerError, match="the id 256, but the model has 256 entries"):
        vocabulary_of(load_tokenizer("byte"), 256)


def test_words_of_a_vocabulary_are_found_in_text_and_marks_are_not() -> None:
    document = load_tokenizer("byte").document()
    word = {**document["added_tokens"][0], "id": 257, "content": "word", "special": False}
    document["added_tokens"].append(word)
    assert gguf_vocabulary(document, 258, end_of_text_id=256).types[256:] == [CONTROL, USER_DEFINED]


def changed(**changes: Any) -> dict[str, Any]:
    document = load_tokenizer("gpt2").document()
    return {**document, **changes}


def test_tokenizers_that_llama_cpp_would_not_follow_are_refused(data_folder: Path) -> None:
    spaced = {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}
    uncut = {"type": "ByteLevel", "use_regex": False}
    refused = {
        "is a WordLevel model": train_tokenizer("char", ["abc"]).document(),
        "is a BPE model on text cut by BertPreTokenizer": load_tokenizer(data_folder / "gpt1-tokenizer").document(),
        "puts a space before every text": changed(pre_tokenizer=spaced),
        "merges across words": changed(pre_tokenizer=uncut),
        "changes the text first": changed(normalizer={"type": "Lowercase"}),
        "has ignore_merges": changed(model={**changed()["model"], "ignore_merges": True}),
    }
    for said, document in refused.items():
        with pytest.raises(TokenizerError, match=said):
            gguf_vocabulary(document, 60000, end_of_text_id=0)
    with pytest.raises(TokenizerError, match=r"no end token, and llama\.cpp would take the token 11"):
        gguf_vocabulary(changed(), 60000, end_of_text_id=None)
