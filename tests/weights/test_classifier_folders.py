"""Folders of classifiers against transformers: GPT2- and OpenAIGPTForSequenceClassification, in and out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    OpenAIGPTConfig,
    OpenAIGPTForSequenceClassification,
)

from gpt_kit.errors import CheckpointError
from gpt_kit.model import GPTClassifier, GPTModel
from gpt_kit.weights import load_weights

LABELS, PAD = ("bad", "fair", "good"), 60
IDS = torch.tensor([[3, 17, 5, 42, 9], [8, 1, 60, 60, 60], [7, 7, 2, 60, 60]])
MASK = (IDS != PAD).long()
CLASSES = {"pre": GPT2ForSequenceClassification, "post": OpenAIGPTForSequenceClassification}


def classifier(config_of: Any, tensors_of: Any, **changes: Any) -> GPTClassifier:
    config = config_of(**changes)
    model = GPTClassifier(config, LABELS, PAD).eval()
    model.load_tensors({**tensors_of(config), "score.weight": torch.randn(3, config.n_embd, generator=torch.Generator().manual_seed(1))})
    return model


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_transformers_opens_what_we_write_with_the_same_logits(
    norm: str, config_of: Any, tensors_of: Any, transformers_log: list[str], tmp_path: Path
) -> None:
    """No padding, padding on the right and padding on the left (where transformers has to be told the positions)."""
    model = classifier(config_of, tensors_of, norm=norm, n_inner=0, qkv_bias=norm == "pre")
    model.save_pretrained(tmp_path / "a", end_of_text_id=PAD)
    theirs, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "a", output_loading_info=True)
    assert {kind: found for kind, found in report.items() if found} == {} and transformers_log == []
    assert type(theirs.eval()) is CLASSES[norm]
    assert theirs.config.id2label == dict(enumerate(LABELS)) and theirs.config.label2id == {name: i for i, name in enumerate(LABELS)}
    with torch.no_grad():
        torch.testing.assert_close(model.label_logits(IDS, MASK), theirs(IDS, attention_mask=MASK).logits, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model.label_logits(IDS[:1]), theirs(IDS[:1]).logits, rtol=1e-5, atol=1e-5)
        left_ids, left_mask = IDS.flip(1), MASK.flip(1)
        positions = (left_mask.cumsum(1) - 1).clamp(min=0)
        logits = theirs(left_ids, attention_mask=left_mask, position_ids=positions).logits
        torch.testing.assert_close(model.label_logits(left_ids, left_mask), logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_we_open_what_transformers_writes(norm: str, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"vocab_size": 61, "n_positions": 11, "n_embd": 24, "n_head": 3, "n_layer": 2, "pad_token_id": PAD}
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
    config = (GPT2Config if norm == "pre" else OpenAIGPTConfig)(**sizes, **names, bos_token_id=5, eos_token_id=5)
    torch.manual_seed(2)
    theirs = CLASSES[norm](config).eval()
    theirs.save_pretrained(tmp_path)
    model = GPTClassifier.from_pretrained(tmp_path)
    assert (model.labels, model.pad_token_id) == (LABELS, PAD)
    with torch.no_grad():
        torch.testing.assert_close(model.label_logits(IDS, MASK), theirs(IDS, attention_mask=MASK).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False}, {"norm": "post", "n_inner": 0}, {"position_embedding": "rotary"}])
def test_a_classifier_comes_back_exactly_and_is_a_language_model_too(
    changes: dict[str, Any], config_of: Any, tensors_of: Any, tmp_path: Path
) -> None:
    model = classifier(config_of, tensors_of, **changes)
    model.save_pretrained(tmp_path / "a")
    back = GPTClassifier.from_pretrained(tmp_path / "a")
    assert (back.config, back.labels, back.pad_token_id) == (model.config, LABELS, PAD)
    assert back.exported_tensors().keys() == model.exported_tensors().keys()
    assert all(torch.equal(tensor, back.exported_tensors()[name]) for name, tensor in model.exported_tensors().items())
    with torch.no_grad():
        assert torch.equal(GPTModel.from_pretrained(tmp_path / "a")(IDS), model(IDS))


def test_a_language_model_is_no_classifier_and_says_how_to_become_one(config_of: Any, tmp_path: Path) -> None:
    GPTModel(config_of()).save_pretrained(tmp_path / "a")
    assert load_weights(tmp_path / "a").classification is None
    with pytest.raises(CheckpointError, match=r"scores no labels.*finetune classify"):
        GPTClassifier.from_pretrained(tmp_path / "a")
    AutoModelForCausalLM.from_pretrained(tmp_path / "a")


def test_labels_and_rows_that_disagree_are_refused(config_of: Any, tensors_of: Any, tmp_path: Path) -> None:
    classifier(config_of, tensors_of).save_pretrained(tmp_path / "a")
    (tmp_path / "a" / "MANIFEST.json").unlink()
    file = tmp_path / "a" / "config.json"
    content = json.loads(file.read_text())
    for names in ({"0": "bad", "1": "good"}, {"0": "bad", "1": "fair", "3": "good"}, ["bad", "fair", "good"]):
        file.write_text(json.dumps(content | {"id2label": names}))
        with pytest.raises(CheckpointError, match=r"id2label is .* score\.weight has 3 rows"):
            load_weights(tmp_path / "a")
    content.pop("id2label")  # as transformers writes it for names that nobody gave
    file.write_text(json.dumps(content))
    assert load_weights(tmp_path / "a").classification.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
