"""LoRA adapters against peft: what it writes we read, what we write it reads, over transformers' models, with the same logits."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from gpt_kit.config import LoraConfig, ModelConfig
from gpt_kit.errors import CheckpointError
from gpt_kit.finetuning import AdapterFiles, add_lora, lora_tensors
from gpt_kit.model import GPTModel
from gpt_kit.tokenizers import load_tokenizer
from gpt_kit.weights import load_weights

IDS = torch.tensor([[3, 60, 0, 17, 17, 42, 5], [9, 8, 7, 6, 5, 4, 3]])  # B=2, T=7
BLOCK = ("qkv", "projection", "expand", "contract")
SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": {"vocab_multiple": 16},
    "gpt2-untied": {"tie_word_embeddings": False},
    "openai-gpt": {"norm": "post", "n_inner": 0},
}
MODULES = {"qkv": "attn.c_attn", "projection": "attn.c_proj", "expand": "mlp.c_fc", "contract": "mlp.c_proj", "head": "lm_head"}
Make = Callable[..., GPTModel]


@pytest.fixture(autouse=True)
def _peft_and_transformers_may_warn() -> Any:
    """Of their own deprecations, of Conv1D that they recognise themselves, and of tied weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def base_of(tiny_config: Callable[..., ModelConfig], random_model: Make, tmp_path: Path) -> Callable[..., tuple[GPTModel, Path]]:
    """A random model of some shape, and the folder it was saved to."""

    def make(shape: str) -> tuple[GPTModel, Path]:
        model = random_model(tiny_config(**{"rotary": {"position_embedding": "rotary"}, **SHAPES}[shape]))
        model.save_pretrained(tmp_path / "base")
        return model, tmp_path / "base"

    return make


def with_random_adapter(model: GPTModel, lora: LoraConfig) -> GPTModel:
    """LoRA as if it had been trained: neither A nor B is zero."""
    add_lora(model, lora)
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0.0, 0.2, generator=generator)
    return model


def saved(model: GPTModel, lora: LoraConfig, base: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    files = AdapterFiles(lora, base)
    files.write(folder, model, files.tensors(model), None)
    return folder


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found.detach(), expected.detach(), rtol=0, atol=1e-4)


def all_targets(model: GPTModel) -> tuple[str, ...]:
    return (*BLOCK, "token_embedding") if model.head is None else (*BLOCK, "token_embedding", "head")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("everything", [True, False])
def test_peft_and_transformers_open_our_adapters(
    base_of: Callable[..., tuple[GPTModel, Path]], tmp_path: Path, shape: str, everything: bool
) -> None:
    """By three doors, two of which find the base by themselves; and a gradient is peft's."""
    model, base = base_of(shape)
    lora = LoraConfig(rank=3, alpha=5, targets=all_targets(model) if everything else ("projection",))
    with_random_adapter(model, lora)
    folder = saved(model, lora, base, tmp_path / "adapter")
    logits = model(IDS)
    theirs = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder, is_trainable=True)
    close(theirs.eval()(IDS).logits, logits)
    close(peft.AutoPeftModelForCausalLM.from_pretrained(folder).eval()(IDS).logits, logits)
    close(AutoModelForCausalLM.from_pretrained(folder).eval()(IDS).logits, logits)
    close(GPTModel.from_pretrained(folder)(IDS), logits)

    logits.square().sum().backward()
    theirs(IDS).logits.square().sum().backward()
    expected = next(p.grad for name, p in theirs.named_parameters() if "h.1.attn.c_proj.lora_A" in name)
    torch.testing.assert_close(model.get_parameter("blocks.1.attention.projection.lora_A").grad, expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("targets", "settings"),
    [
        (["qkv", "projection", "expand", "contract"], {"lora_alpha": 7, "lora_dropout": 0.1}),
        (["qkv"], {"use_rslora": True, "init_lora_weights": "gaussian"}),
        (["qkv", "expand"], {"layers_to_transform": [1], "rank_pattern": {"mlp.c_fc": 2}}),
        (["embedding"], {}),
        (["head"], {}),
        (["embedding", "head"], {}),
        (["embedding", "head", "contract"], {"ensure_weight_tying": True}),
    ],
)
def test_we_open_pefts_adapters(
    base_of: Callable[..., tuple[GPTModel, Path]], tmp_path: Path, shape: str, targets: list[str], settings: dict[str, Any]
) -> None:
    """Also where it adapts embedding or head of a tied pair alone: they are one matrix no longer, and the merged folder says so."""
    model, base = base_of(shape)
    config = model.config
    modules = MODULES | {"embedding": "tokens_embed" if shape == "openai-gpt" else "wte"}
    if settings.get("ensure_weight_tying") and not config.tie_word_embeddings:
        pytest.skip("nothing is tied")
    theirs = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        peft.LoraConfig(**{"r": 4, "task_type": "CAUSAL_LM", "target_modules": [modules[name] for name in targets], **settings}),
    ).eval()
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_" in name:
                parameter.normal_(0.0, 0.2)
    theirs.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    ours = GPTModel.from_pretrained(tmp_path / "adapter")
    close(ours(IDS), theirs(IDS).logits)
    together = not {"embedding", "head"} & set(targets) or "ensure_weight_tying" in settings
    assert ours.config.tie_word_embeddings == (config.tie_word_embeddings and together)
    ours.save_pretrained(tmp_path / "merged")
    merged: PreTrainedModel = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    close(merged.eval()(IDS).logits, theirs(IDS).logits)


def test_a_checkpoint_gives_back_a_and_b_to_the_bit(base_of: Callable[..., tuple[GPTModel, Path]], tmp_path: Path) -> None:
    """With what pads the vocabulary left out. Another base, or other settings, are refused before anything is changed."""
    for shape in (*SHAPES, "rotary"):
        model, base = base_of(shape)
        lora = LoraConfig(rank=3, alpha=0.7, dropout=0.25, targets=all_targets(model))
        with_random_adapter(model, lora)
        folder = saved(model, lora, base, tmp_path / shape)
        again = GPTModel(model.config)
        again.load_tensors(load_weights(base).tensors)
        add_lora(again, lora)
        AdapterFiles(lora, base).read(folder, again)
        close(GPTModel.from_pretrained(folder)(IDS), model(IDS))
        assert all(torch.equal(tensor, lora_tensors(model)[name]) for name, tensor in lora_tensors(again).items())
        for other in ({"alpha": 0.6}, {"dropout": 0.0}, {"targets": ("qkv",)}, {"rank": 4}):
            changed = LoraConfig(**{"rank": 3, "alpha": 0.7, "dropout": 0.25, "targets": lora.targets, **other})
            fresh = GPTModel(model.config)
            add_lora(fresh, changed)
            before = {name: tensor.clone() for name, tensor in lora_tensors(fresh).items()}
            with pytest.raises(CheckpointError, match=r"other settings under \[lora\]"):
                AdapterFiles(changed, base).read(folder, fresh)
            assert all(torch.equal(tensor, before[name]) for name, tensor in lora_tensors(fresh).items())
        model.save_pretrained(tmp_path / f"other-{shape}")
        with pytest.raises(CheckpointError, match="made for another base"):
            AdapterFiles(lora, tmp_path / f"other-{shape}").read(folder, again)


def test_the_base_is_found_where_it_lies_and_compared(base_of: Callable[..., tuple[GPTModel, Path]], tmp_path: Path) -> None:
    """In a run that was moved with its base, by a relative path; and not taken for the right one when it is another."""
    model, base = base_of("gpt2")
    lora = LoraConfig(rank=2)
    with_random_adapter(model, lora)
    run = tmp_path / "runs" / "a"
    shutil.copytree(base, run / "base")
    step = saved(model, lora, run / "base", run / "checkpoints" / "step-00000005")
    logits = model(IDS)
    moved = tmp_path / "elsewhere"
    shutil.move(run, moved)
    close(GPTModel.from_pretrained(moved)(IDS), logits)
    close(GPTModel.from_pretrained(moved / "checkpoints" / step.name)(IDS), logits)

    alone = tmp_path / "deep" / "adapter"
    shutil.copytree(moved / "checkpoints" / step.name, alone)
    with pytest.raises(CheckpointError, match="base of this adapter is not there"):
        load_weights(alone)
    settings = json.loads((alone / "adapter_config.json").read_text())
    (alone / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": "../../base"}))
    close(GPTModel.from_pretrained(alone)(IDS), logits)

    for folder, words in ((base, "made for another base"), (moved / "base", "does not match its manifest")):
        tensors = load_file(folder / "model.safetensors")
        tensors["transformer.h.0.attn.c_attn.weight"][3, 4] += 1
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        (base / "MANIFEST.json").unlink(missing_ok=True)
        with pytest.raises(CheckpointError, match=words):
            load_weights(alone if folder == base else moved)


def test_an_adapter_without_a_tokenizer_has_its_bases(base_of: Callable[..., tuple[GPTModel, Path]], tmp_path: Path) -> None:
    model, base = base_of("gpt2")
    bases, own = load_tokenizer("byte"), load_tokenizer("byte", ["<|user|>"])
    bases.save(base)
    lora = LoraConfig(rank=2)
    folder = saved(with_random_adapter(model, lora), lora, base, tmp_path / "adapter")
    assert load_tokenizer(folder).fingerprint == bases.fingerprint != own.fingerprint
    own.save(folder)
    assert load_tokenizer(folder).fingerprint == own.fingerprint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"use_dora": True}, "use_dora is True"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3' .*'LORA'"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
        ({"alpha_pattern": {"c_attn": 3}}, "alpha_pattern is"),
        ({"something_new": [1]}, "something_new is"),
        ({"lora_alpha": None}, "lora_alpha is None"),
        ({"base_model_name_or_path": ""}, "expected the folder of the base"),
    ],
)
def test_what_is_more_than_lora_is_refused_by_name(
    base_of: Callable[..., tuple[GPTModel, Path]], tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    model, base = base_of("gpt2")
    lora = LoraConfig(rank=2)
    folder = saved(with_random_adapter(model, lora), lora, base, tmp_path / "adapter")
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(settings | change))
    with pytest.raises(CheckpointError, match=words):
        load_weights(folder)


@pytest.mark.parametrize(
    ("key", "shape", "words"),
    [
        ("h.7.attn.c_attn.lora_A.weight", (2, 24), "fits no layer of the base"),
        ("h.0.attn.c_attn.lora_A.weight", (2, 23), r"A is \(2, 23\) and B \(72, 2\); the base's weight is \(72, 24\)"),
        ("h.0.attn.c_attn.lora_B.weight", (72, 3), r"B \(72, 3\)"),
        ("h.0.mlp.c_fc.lora_B.weight", (40, 2), "one of A and B is missing"),
        ("h.0.attn.c_attn.lora_A.weight", (0, 24), "one of A and B is missing"),
        ("ln_f.weight", (24,), "neither A nor B, but a whole weight"),
        ("wte.weight", (61, 24), "brings a token_embedding of its own"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    base_of: Callable[..., tuple[GPTModel, Path]], tmp_path: Path, key: str, shape: tuple[int, ...], words: str
) -> None:
    model, base = base_of("gpt2")
    lora = LoraConfig(rank=2, targets=("qkv",))
    folder = saved(with_random_adapter(model, lora), lora, base, tmp_path / "adapter")
    tensors = load_file(folder / "adapter_model.safetensors") | {f"base_model.model.transformer.{key}": torch.ones(shape)}
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=words):
        load_weights(folder)


def test_an_adapter_cannot_be_a_base(base_of: Callable[..., tuple[GPTModel, Path]], tmp_path: Path) -> None:
    model, base = base_of("gpt2")
    lora = LoraConfig(rank=2)
    folder = saved(with_random_adapter(model, lora), lora, base, tmp_path / "adapter")
    with pytest.raises(CheckpointError, match=r"Merge it: gpt-kit merge"):
        AdapterFiles(lora, folder)
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": str(folder)}))
    with pytest.raises(CheckpointError, match="an adapter too"):
        load_weights(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no weights to build on"):
        AdapterFiles(lora, tmp_path / "empty")
