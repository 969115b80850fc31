"""Hugging Face folders against transformers: what it writes we read, what we write it reads, and both mean the same model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    PreTrainedModel,
)

from gpt_kit.config import ModelConfig
from gpt_kit.errors import CheckpointError
from gpt_kit.weights import Weights, load_weights, save_weights

V, P, C, H, L, I = 61, 11, 24, 3, 2, 40  # noqa: E741 - the field's letters
IDS = torch.tensor([[3, 60, 0, 17, 17, 42, 5], [9, 8, 7, 6, 5, 4, 3]])  # B=2, T=7


def logits_by_definition(config: ModelConfig, tensors: dict[str, Tensor], ids: Tensor) -> Tensor:
    """GPT-1 and GPT-2 as their papers define them, from kit names: (B, T) -> (B, T, V)."""

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (config.n_embd,), tensors[f"{name}.weight"], tensors[f"{name}.bias"], config.layer_norm_epsilon)

    def attend(x: Tensor, block: str) -> Tensor:
        q, k, v = (part.unflatten(-1, (config.n_head, -1)).transpose(1, 2) for part in linear(x, f"{block}.attention.qkv").chunk(3, -1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        return linear(mixed, f"{block}.attention.projection")

    def feed_forward(x: Tensor, block: str) -> Tensor:
        hidden = F.gelu(linear(x, f"{block}.feed_forward.expand"), approximate="tanh")
        return linear(hidden, f"{block}.feed_forward.contract")

    x = tensors["token_embedding.weight"][ids] + tensors["position_embedding.weight"][: ids.shape[1]]
    for i in range(config.n_layer):
        block = f"blocks.{i}"
        if config.norm == "pre":
            x = x + attend(norm(x, f"{block}.attention_norm"), block)
            x = x + feed_forward(norm(x, f"{block}.feed_forward_norm"), block)
        else:
            x = norm(x + attend(x, block), f"{block}.attention_norm")
            x = norm(x + feed_forward(x, block), f"{block}.feed_forward_norm")
    if config.norm == "pre":
        x = norm(x, "final_norm")
    return x @ tensors["token_embedding.weight" if config.tie_word_embeddings else "head.weight"].T


def transformers_model(kind: str, *, tied: bool = True) -> PreTrainedModel:
    sizes: dict[str, Any] = {"vocab_size": V, "n_positions": P, "n_embd": C, "n_head": H, "n_layer": L, "tie_word_embeddings": tied}
    ids: dict[str, Any] = {"bos_token_id": 5, "eos_token_id": 5}
    torch.manual_seed(3)
    model: PreTrainedModel
    if kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(**sizes, **ids, n_inner=I, embd_pdrop=0.2, attn_pdrop=0, resid_pdrop=0.3))
    else:
        model = OpenAIGPTLMHeadModel(OpenAIGPTConfig(**sizes, **ids, initializer_range=0.03))
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases too
            parameter.normal_(std=0.3)
    return model.eval()


@pytest.fixture
def gpt2_folder(tmp_path: Path) -> Path:
    transformers_model("gpt2").save_pretrained(tmp_path / "gpt2")
    return tmp_path / "gpt2"


def change_tensors(folder: Path, change: Any) -> None:
    """Apply `change(tensors)` to the folder's model.safetensors."""
    tensors = load_file(folder / "model.safetensors")
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def same(left: Weights, right: Weights) -> bool:
    names_equal = left.config == right.config and left.tensors.keys() == right.tensors.keys()
    return names_equal and all(torch.equal(tensor, right.tensors[name]) for name, tensor in left.tensors.items())


# --- from transformers ---


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["gpt2", "openai-gpt"])
def test_a_folder_that_transformers_wrote_is_the_same_model_here(kind: str, tied: bool, tmp_path: Path) -> None:
    """Logits, not tensors: this also catches Q, K, V in another order and the two norms of GPT-1 exchanged."""
    model = transformers_model(kind, tied=tied)
    model.save_pretrained(tmp_path)
    weights = load_weights(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(logits_by_definition(weights.config, weights.tensors, IDS), model(IDS).logits)
    dropouts = (weights.config.embedding_dropout, weights.config.attention_dropout, weights.config.residual_dropout)
    assert dropouts == ((0.2, 0, 0.3) if kind == "gpt2" else (0.1, 0.1, 0.1))
    assert weights.config.initializer_range == (0.02 if kind == "gpt2" else 0.03)
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in weights.tensors.values())


@pytest.mark.parametrize("kind", ["gpt2", "openai-gpt"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_folder_of_transformers_comes_back_as_it_was(kind: str, tied: bool, tmp_path: Path) -> None:
    """The same tensor names and bytes, and no key of config.json with another value."""
    transformers_model(kind, tied=tied).save_pretrained(tmp_path / "theirs")
    weights = load_weights(tmp_path / "theirs")
    (tmp_path / "ours").mkdir()
    save_weights(tmp_path / "ours", weights.config, weights.tensors, end_of_text_id=5)
    theirs, ours = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours"))
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    config, original = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("ours", "theirs"))
    assert [key for key in config.keys() & original.keys() if config[key] != original[key]] == []


def test_names_without_prefix_and_old_mask_buffers_are_read(gpt2_folder: Path) -> None:
    """The published gpt2 has both: names that begin with `h.0`, and the causal mask stored as `h.0.attn.bias`."""
    expected = load_weights(gpt2_folder)

    def as_published(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        for i in range(L):
            tensors[f"h.{i}.attn.bias"] = torch.ones(1, 1, P, P, dtype=torch.uint8)
            tensors[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)

    change_tensors(gpt2_folder, as_published)
    assert same(load_weights(gpt2_folder), expected)


def test_shards_are_the_same_model_as_one_file(gpt2_folder: Path, tmp_path: Path) -> None:
    transformers_model("gpt2").save_pretrained(tmp_path / "shards", max_shard_size="8KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 3
    assert same(load_weights(tmp_path / "shards"), load_weights(gpt2_folder))


def test_a_missing_shard_and_an_index_that_points_elsewhere_are_errors(tmp_path: Path) -> None:
    transformers_model("gpt2").save_pretrained(tmp_path, max_shard_size="8KB")
    index = tmp_path / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    next(iter(tmp_path.glob("model-00002*"))).unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-\d+\.safetensors: there is no such file"):
        load_weights(tmp_path)
    index.write_text(json.dumps({"weight_map": places | {"transformer.wte.weight": "../../outside.safetensors"}}))
    with pytest.raises(CheckpointError, match="not the name of a file in this folder"):
        load_weights(tmp_path)


def test_an_index_of_other_shards_is_an_error(tmp_path: Path) -> None:
    """Shards of two downloads mixed up: the index places a tensor elsewhere than it lies."""
    transformers_model("gpt2").save_pretrained(tmp_path, max_shard_size="8KB")
    index = tmp_path / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    other = places["transformer.wte.weight"]
    assert places["transformer.h.1.mlp.c_fc.weight"] != other
    index.write_text(json.dumps({"weight_map": places | {"transformer.h.1.mlp.c_fc.weight": other}}))
    with pytest.raises(CheckpointError, match=r"holds transformer\.h\.1\.mlp\.c_fc\.weight, which the index places in " + other):
        load_weights(tmp_path)


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    """bfloat16 values are exact in float32, so nothing may change but the type."""
    model = transformers_model("gpt2").to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    tensors = load_weights(tmp_path).tensors
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert torch.equal(tensors["token_embedding.weight"], model.transformer.wte.weight.float())


# --- tied embeddings ---


def test_a_second_copy_of_a_tied_embedding_is_accepted_only_when_it_is_a_copy(gpt2_folder: Path) -> None:
    expected = load_weights(gpt2_folder)
    change_tensors(gpt2_folder, lambda t: t.update({"lm_head.weight": t["transformer.wte.weight"].clone()}))
    assert same(load_weights(gpt2_folder), expected)
    change_tensors(gpt2_folder, lambda t: t["lm_head.weight"][4, 2].add_(1e-3))
    with pytest.raises(CheckpointError, match=r"lm_head\.weight differs from wte\.weight.*tie_word_embeddings to false"):
        load_weights(gpt2_folder)
    change_config(gpt2_folder, tie_word_embeddings=False)  # what the message says to do
    assert "head.weight" in load_weights(gpt2_folder).tensors


def test_a_tied_pair_of_which_only_the_head_was_stored_is_read(gpt2_folder: Path) -> None:
    expected = load_weights(gpt2_folder)
    change_tensors(gpt2_folder, lambda t: t.update({"lm_head.weight": t.pop("transformer.wte.weight")}))
    assert same(load_weights(gpt2_folder), expected)


# --- into transformers ---


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False}, {"qkv_bias": False}, {"vocab_multiple": 64}, {"n_inner": 0}])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_transformers_opens_what_we_write_without_a_word(
    norm: str, changes: dict[str, Any], config_of: Any, tensors_of: Any, transformers_log: list[str], tmp_path: Path
) -> None:
    config = config_of(**{"norm": norm, **({"n_inner": 0} if norm == "post" else {}), **changes})
    tensors = tensors_of(config)
    save_weights(tmp_path, config, tensors, end_of_text_id=60)
    model, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert {kind: found for kind, found in report.items() if found} == {}
    assert transformers_log == []
    assert isinstance(model, GPT2LMHeadModel if norm == "pre" else OpenAIGPTLMHeadModel)
    assert (model.config.eos_token_id, model.generation_config.eos_token_id, model.dtype) == (60, 60, torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(IDS).logits, logits_by_definition(config, tensors, IDS))


def test_without_an_end_token_transformers_has_none_either(
    config_of: Any, tensors_of: Any, transformers_log: list[str], tmp_path: Path
) -> None:
    """GPT2Config would take 50256 for an absent key, which is outside this vocabulary."""
    save_weights(tmp_path, config_of(), tensors_of(config_of()))
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert (model.config.bos_token_id, model.config.eos_token_id, model.generation_config.eos_token_id) == (None, None, None)
    assert transformers_log == []
    change_config(tmp_path, eos_token_id=50256)
    AutoModelForCausalLM.from_pretrained(tmp_path)
    assert "eos_token_id" in transformers_log[0]  # the control: what is said can be heard


# --- there and back ---


@pytest.mark.parametrize(
    ("changes", "model_type"),
    [
        ({}, "gpt2"),
        ({"n_inner": 0, "qkv_bias": False, "tie_word_embeddings": False, "vocab_multiple": 64}, "gpt2"),
        ({"norm": "post", "n_inner": 0}, "openai-gpt"),
        ({"norm": "post", "n_inner": 96, "qkv_bias": False, "tie_word_embeddings": False}, "openai-gpt"),
        ({"norm": "post"}, "gpt_kit"),  # OpenAIGPTConfig has no n_inner
        ({"position_embedding": "sinusoidal", "scale_embeddings": True, "norm": "post"}, "gpt_kit"),
        ({"position_embedding": "rotary", "qkv_bias": False, "tie_word_embeddings": False}, "gpt_kit"),
        ({"scale_embeddings": True, "layer_norm_epsilon": 1e-6, "embedding_dropout": 0.0}, "gpt_kit"),
    ],
)
def test_every_config_comes_back_exactly(changes: dict[str, Any], model_type: str, config_of: Any, tensors_of: Any, tmp_path: Path) -> None:
    written = Weights(config_of(**changes), tensors_of(config_of(**changes)))
    save_weights(tmp_path, written.config, written.tensors)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == model_type
    assert same(load_weights(tmp_path), written)


def test_what_transformers_changes_and_saves_again_wins_over_our_key(config_of: Any, tensors_of: Any, tmp_path: Path) -> None:
    """A vocabulary resized there, and QKV biases trained there on a model that had none here."""
    config = config_of(qkv_bias=False, vocab_multiple=64)
    (tmp_path / "a").mkdir()
    save_weights(tmp_path / "a", config, tensors_of(config))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "a")
    assert model.config.gpt_kit == dataclasses.asdict(config)  # carried along, unread
    model.resize_token_embeddings(V + 6)
    model.save_pretrained(tmp_path / "b")
    resized = load_weights(tmp_path / "b")
    assert resized.config == dataclasses.replace(config, vocab_size=V + 6)
    assert resized.tensors["token_embedding.weight"].shape == (V + 6, C)
    with torch.no_grad():
        model.transformer.h[1].attn.c_attn.bias[50] = 0.25
    model.save_pretrained(tmp_path / "c")
    trained = load_weights(tmp_path / "c")
    assert trained.config == dataclasses.replace(resized.config, qkv_bias=True)
    assert trained.tensors["blocks.1.attention.qkv.bias"][50] == 0.25


# --- strict ---


def test_missing_and_unknown_tensors_are_named_and_counted(gpt2_folder: Path) -> None:
    change_config(gpt2_folder, n_layer=1)
    with pytest.raises(CheckpointError, match=r"28 tensors, expected 16: h\.1\.\S+, h\.1\.\S+, h\.1\.\S+ and 9 more unknown"):
        load_weights(gpt2_folder)
    change_config(gpt2_folder, n_layer=3)
    with pytest.raises(CheckpointError, match=r"28 tensors, expected 40: h\.2\.\S+, h\.2\.\S+, h\.2\.\S+ and 9 more missing"):
        load_weights(gpt2_folder)
    change_config(gpt2_folder, n_layer=2)
    change_tensors(gpt2_folder, lambda t: t.update({"transformer.gate": t.pop("transformer.ln_f.bias")}))
    with pytest.raises(CheckpointError, match=r"ln_f\.bias missing; gate unknown"):
        load_weights(gpt2_folder)


def test_a_matrix_in_the_other_orientation_is_refused_by_name_and_shapes(gpt2_folder: Path) -> None:
    name = "transformer.h.1.attn.c_attn.weight"
    change_tensors(gpt2_folder, lambda t: t.update({name: t[name].T.contiguous()}))
    with pytest.raises(CheckpointError, match=r"h\.1\.attn\.c_attn\.weight has shape \(72, 24\), but the config asks for \(24, 72\)"):
        load_weights(gpt2_folder)


def test_quantized_weights_and_doubled_names_are_refused(gpt2_folder: Path) -> None:
    change_tensors(gpt2_folder, lambda t: t.update({"wpe.weight": t["transformer.wpe.weight"].clone()}))
    with pytest.raises(CheckpointError, match=r"wpe\.weight is there twice"):
        load_weights(gpt2_folder)
    change_tensors(gpt2_folder, lambda t: (t.pop("wpe.weight"), t.update({"transformer.wpe.weight": torch.ones(P, C, dtype=torch.int8)})))
    with pytest.raises(CheckpointError, match=r"wpe\.weight holds torch\.int8"):
        load_weights(gpt2_folder)


def test_a_pickle_is_refused_with_the_way_to_convert_it(gpt2_folder: Path) -> None:
    (gpt2_folder / "model.safetensors").rename(gpt2_folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin, a pickle.*from_pretrained.*save_pretrained"):
        load_weights(gpt2_folder)


def test_tensors_that_do_not_fit_the_config_are_never_written(config_of: Any, tensors_of: Any, tmp_path: Path) -> None:
    """Padding rows of the vocabulary, and the prefixes of compiled or DDP models, are how wrong files come about."""
    config, tensors = config_of(vocab_multiple=64), tensors_of(config_of())
    padded = tensors | {"token_embedding.weight": torch.zeros(64, C)}
    with pytest.raises(CheckpointError, match=r"token_embedding\.weight has shape \(64, 24\), but the config asks for \(61, 24\)"):
        save_weights(tmp_path, config, padded)
    with pytest.raises(CheckpointError, match=r"_orig_mod\."):
        save_weights(tmp_path, config, {f"_orig_mod.{name}": tensor for name, tensor in tensors.items()})
    with pytest.raises(CheckpointError, match="end_of_text_id is 61; the vocabulary has ids 0 to 60"):
        save_weights(tmp_path, config, tensors, end_of_text_id=61)
    with pytest.raises(CheckpointError, match="no such folder to save into"):
        save_weights(tmp_path / "absent", config, tensors)
    assert list(tmp_path.iterdir()) == []


def test_a_model_read_from_a_folder_can_be_written_over_it(gpt2_folder: Path) -> None:
    """Tensors of a safetensors file may be views of the file itself; writing must not pull it from under them."""
    weights = load_weights(gpt2_folder)
    copies = {name: tensor.clone() for name, tensor in weights.tensors.items()}
    save_weights(gpt2_folder, weights.config, weights.tensors)
    assert same(load_weights(gpt2_folder), Weights(weights.config, copies))
