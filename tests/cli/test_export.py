"""export: a run as it lies there -> one GGUF file; what the format cannot hold is said in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from gpt_kit.config import ModelConfig
from gpt_kit.model import GPTModel
from gpt_kit.tokenizers import chat_tokenizer, load_tokenizer

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def model(tmp_path: Path, random_model: Callable[..., GPTModel]) -> Path:
    """A chat model of V=259 (bytes and marks), C=32, H=2, L=2, P=16."""
    tokenizer = chat_tokenizer(load_tokenizer("byte"))
    config = ModelConfig(vocab_size=tokenizer.vocab_size, n_embd=32, n_head=2, n_layer=2, max_position_embeddings=16)
    random_model(config).save_pretrained(tmp_path / "chat", end_of_text_id=tokenizer.end_of_text_id)
    tokenizer.save(tmp_path / "chat")
    return tmp_path / "chat"


@pytest.mark.parametrize(("words", "kind"), [((), "F16"), (("--type", "f32"), "F32"), (("--type", "q8_0"), "Q8_0")])
def test_export_writes_the_model_with_its_tokenizer(run: Run, model: Path, tmp_path: Path, words: tuple[str, ...], kind: str) -> None:
    code, out, err = run("export", model, tmp_path / "out" / "a.gguf", *words)
    assert (code, err) == (0, "")
    assert "with the byte tokenizer and its chat format" in " ".join(out.split()) and "llama-server -m" in out
    reader = gguf.GGUFReader(tmp_path / "out" / "a.gguf")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert tensors["blk.1.ffn_down.weight"].tensor_type.name == kind
    expected = GPTModel.from_pretrained(model).exported_tensors()["blocks.1.feed_forward.contract.weight"].numpy()
    got = gguf.dequantize(tensors["blk.1.ffn_down.weight"].data, tensors["blk.1.ffn_down.weight"].tensor_type)
    assert np.allclose(got, expected, atol=0.01)
    assert reader.fields["general.name"].contents() == "chat"
    assert reader.fields["tokenizer.chat_template"].contents() == (model / "chat_template.jinja").read_text(encoding="utf-8")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.gguf"]


def test_what_cannot_be_exported_is_refused_in_one_line(run: Run, model: Path, finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "there.gguf").write_text("mine")
    for words, said in (
        ((finished_run, tmp_path / "a.gguf"), "is a WordLevel model on text cut by Split"),
        ((model, tmp_path / "there.gguf"), "already exists"),
        ((tmp_path / "nowhere" / "a", tmp_path / "a.gguf"), "there is no such folder"),
    ):
        code, _, err = run("export", *words)
        assert code == 2 and said in err and len(err.splitlines()) == 1
    assert (tmp_path / "there.gguf").read_text() == "mine" and not (tmp_path / "a.gguf").exists()
