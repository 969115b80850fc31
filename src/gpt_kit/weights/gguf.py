"""GGUF, the one-file form of llama.cpp and what is built on it: a model with its tokenizer, out.

    magic, version, counts | settings (gpt2.*, tokenizer.ggml.*) | names, shapes and types of the tensors | their numbers

Two of llama.cpp's architectures compute what the kit does: "gpt2" (learned positions) and "gptneox" with sequential layers (rotary ones,
turning all channels of a head). Both are pre-norm and always have biases; matrices lie as (out, in), Q, K and V stacked. gpt2 does without
a tied head, gptneox has to hold it again. Types: as llama.cpp's own converter, matrices alone are rounded (f16) or packed (q8_0: 32 numbers
of a row share one float16 scale), whereas norms, biases and positions stay float32. Tensors are packed one by one while they are written.
Source: the GGUF specification (github.com/ggml-org/ggml, docs/gguf.md) and the package `gguf` of the same project.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from gpt_kit.config import ModelConfig
from gpt_kit.errors import CheckpointError, ConfigError, MissingExtraError
from gpt_kit.files import atomic_file
from gpt_kit.weights.gguf_vocabulary import GGUFVocabulary
from gpt_kit.weights.parameters import Weights

if TYPE_CHECKING:
    from gguf import GGUFWriter

GGUFType = Literal["f32", "f16", "q8_0"]


class Packing(NamedTuple):
    """One type of numbers, by the names that `gguf` has for it."""

    tensor: str
    file: str
    bytes: float
    """What a number takes."""
    largest: float
    """The largest number that it can hold."""
    row: int = 1
    """A row's length must be a multiple of this."""


PACKINGS: dict[str, Packing] = {
    "f32": Packing("F32", "ALL_F32", 4, torch.finfo(torch.float32).max),
    "f16": Packing("F16", "MOSTLY_F16", 2, 65504),
    "q8_0": Packing("Q8_0", "MOSTLY_Q8_0", 34 / 32, 127 * 65504, row=32),  # a scale in float16, times -127 to 127
}
# The kit's layers -> GGUF's, with `blk.N.` before those of a block.
NAMES = {
    "token_embedding": "token_embd",
    "position_embedding": "position_embd",
    "attention_norm": "attn_norm",
    "attention.qkv": "attn_qkv",
    "attention.projection": "attn_output",
    "feed_forward_norm": "ffn_norm",
    "feed_forward.expand": "ffn_up",
    "feed_forward.contract": "ffn_down",
    "final_norm": "output_norm",
    "head": "output",
}


def write_gguf(path: Path, weights: Weights, vocabulary: GGUFVocabulary, *, kind: GGUFType = "f16", name: str = "") -> int:
    """Write `path`, whole or not at all, and give its bytes.

    Args:
        path: the file; one that is there is replaced.
        weights: a language model.
        vocabulary: with as many entries as the model's (`gguf_vocabulary`).
        kind: how the matrices are held.
        name: what the file calls the model.
    Raises: ConfigError for an unknown type; CheckpointError for what llama.cpp has no architecture for; MissingExtraError; DiskFullError.
    """
    if kind not in PACKINGS:
        raise ConfigError(f"unknown type {kind!r} for a GGUF file. Types: {', '.join(PACKINGS)}")
    check_gguf_shape(weights)
    if len(vocabulary.tokens) != weights.config.vocab_size:
        raise CheckpointError(f"the vocabulary has {len(vocabulary.tokens)} entries, but the model has {weights.config.vocab_size}")
    try:
        import gguf
    except ImportError:
        raise MissingExtraError("gguf", "gguf", "writing a GGUF file") from None
    tensors = gguf_tensors(weights)
    packings = {key: PACKINGS[kind if _is_packed(key) else "f32"] for key in tensors}
    sizes = {key: int(tensor.numel() * packings[key].bytes) for key, tensor in tensors.items()}
    types = {key: gguf.GGMLQuantizationType[packing.tensor] for key, packing in packings.items()}
    writer = gguf.GGUFWriter(None, architecture_for(weights.config))
    writer.add_file_type(gguf.LlamaFileType[PACKINGS[kind].file])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_shape(writer, weights.config, name)
    _add_vocabulary(writer, vocabulary)
    for key, tensor in tensors.items():
        _check_numbers(key, tensor, packings[key], kind)
        writer.add_tensor_info(key, tensor.shape, tensor.numpy().dtype, sizes[key], types[key])
    with atomic_file(path, needed_bytes=sum(sizes.values())) as temporary, contextlib.closing(writer):
        writer.write_header_to_file(temporary)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for key, tensor in tensors.items():
            writer.write_tensor_data(gguf.quantize(tensor.contiguous().numpy(), types[key]))
    return path.stat().st_size


def architecture_for(config: ModelConfig) -> str:
    """llama.cpp's name of what computes this config."""
    return "gptneox" if config.position_embedding == "rotary" else "gpt2"


def check_gguf_shape(weights: Weights) -> None:
    """Raises: CheckpointError, in one line, for a model that llama.cpp has no architecture for."""
    config = weights.config
    problems = []
    if config.norm != "pre":
        problems.append("LayerNorm after each layer, as in GPT-1")
    if config.position_embedding == "sinusoidal":
        problems.append("sinusoidal positions")
    if weights.classification is not None:
        problems.append("a head that scores labels")
    if problems:
        raise CheckpointError(
            f"llama.cpp's gpt2 and gptneox write text, are pre-norm, and have learned or rotary positions; here: {', '.join(problems)}"
        )


def gguf_tensors(weights: Weights) -> dict[str, Tensor]:
    """The weights by GGUF's names, matrices as (out, in); a QKV bias that the model lacks is zeros."""
    config = weights.config
    whole = dict(weights.tensors)
    for i in range(config.n_layer):
        whole.setdefault(f"blocks.{i}.attention.qkv.bias", torch.zeros(3 * config.n_embd))
    if config.scale_embeddings or config.position_embedding == "rotary":
        whole.setdefault("head.weight", whole["token_embedding.weight"])
    if config.scale_embeddings:
        whole["token_embedding.weight"] = whole["token_embedding.weight"] * math.sqrt(config.n_embd)
    return {_gguf_name(name): tensor for name, tensor in whole.items()}


def _gguf_name(kit_name: str) -> str:
    """`blocks.3.attention.qkv.weight` -> `blk.3.attn_qkv.weight`."""
    layer, _, part = kit_name.rpartition(".")
    if not layer.startswith("blocks."):
        return f"{NAMES[layer]}.{part}"
    _, block, inner = layer.split(".", 2)
    return f"blk.{block}.{NAMES[inner]}.{part}"


def _is_packed(gguf_name: str) -> bool:
    """Whether a tensor is a matrix of a product; llama.cpp adds positions, norms and biases in float32."""
    return gguf_name.endswith(".weight") and not gguf_name.endswith(("_norm.weight", "position_embd.weight"))


def _check_numbers(name: str, tensor: Tensor, packing: Packing, kind: str) -> None:
    """Raises: CheckpointError for a tensor that would not come out as it went in."""
    if tensor.shape[-1] % packing.row:
        raise CheckpointError(f"{name}: rows of {tensor.shape[-1]}, but {kind} packs them by {packing.row}. Take --type f16")
    largest = float(tensor.abs().max())
    if not largest <= packing.largest:  # also for NaN
        remedy = "Take --type f32" if largest < PACKINGS["f32"].largest else "The model is broken: choose another checkpoint"
        raise CheckpointError(f"{name}: holds {largest:g}, but {packing.tensor} goes to {packing.largest:g}. {remedy}")


def _add_shape(writer: GGUFWriter, config: ModelConfig, name: str) -> None:
    writer.add_name(name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.inner_width)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    if config.position_embedding == "rotary":
        writer.add_rope_dimension_count(config.head_width)
        writer.add_rope_freq_base(10_000.0)  # as model/positions.py
        writer.add_parallel_residual(False)


def _add_vocabulary(writer: GGUFWriter, vocabulary: GGUFVocabulary) -> None:
    writer.add_tokenizer_model("gpt2")  # byte-level BPE
    writer.add_tokenizer_pre("gpt-2")  # its way to cut text into words
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(vocabulary.begin_of_text_id)
    writer.add_eos_token_id(vocabulary.end_of_text_id)
    writer.add_add_bos_token(False)  # as in the kit: a prompt is what was said
    if vocabulary.chat_template is not None:
        writer.add_chat_template(vocabulary.chat_template)
