"""One table of names: what the kit calls a parameter, and what published files call it.

The table is read from left to right to write and from right to left to read. Published linear layers are `Conv1D`:
(in, out), the transpose of `torch.nn.Linear`. `*` stands for the number of the block.

In GPT-1 (norm="post") `ln_1` follows the attention and `ln_2` the feed-forward layer, in GPT-2 they precede them; both are the
norm *of* that layer, so one row serves both. Blocks stand in the order of the GPT-1 release, which has no names of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from torch import Tensor

from gpt_kit.weights.parameters import Shape

Naming = Literal["gpt2", "openai-gpt", "openai"]
"""`gpt2` and `openai-gpt`: transformers' two classes. `openai`: the TensorFlow variables of the original releases."""


class Row(NamedTuple):
    """One parameter in the kit, in transformers (the same for GPT-1 and GPT-2), and in OpenAI's TensorFlow code."""

    kit: str
    transformers: str
    openai: str
    transposed: bool = False


BLOCK_ROWS = (
    Row("blocks.*.attention.qkv.weight", "h.*.attn.c_attn.weight", "model/h*/attn/c_attn/w", transposed=True),
    Row("blocks.*.attention.qkv.bias", "h.*.attn.c_attn.bias", "model/h*/attn/c_attn/b"),
    Row("blocks.*.attention.projection.weight", "h.*.attn.c_proj.weight", "model/h*/attn/c_proj/w", transposed=True),
    Row("blocks.*.attention.projection.bias", "h.*.attn.c_proj.bias", "model/h*/attn/c_proj/b"),
    Row("blocks.*.attention_norm.weight", "h.*.ln_1.weight", "model/h*/ln_1/g"),
    Row("blocks.*.attention_norm.bias", "h.*.ln_1.bias", "model/h*/ln_1/b"),
    Row("blocks.*.feed_forward.expand.weight", "h.*.mlp.c_fc.weight", "model/h*/mlp/c_fc/w", transposed=True),
    Row("blocks.*.feed_forward.expand.bias", "h.*.mlp.c_fc.bias", "model/h*/mlp/c_fc/b"),
    Row("blocks.*.feed_forward.contract.weight", "h.*.mlp.c_proj.weight", "model/h*/mlp/c_proj/w", transposed=True),
    Row("blocks.*.feed_forward.contract.bias", "h.*.mlp.c_proj.bias", "model/h*/mlp/c_proj/b"),
    Row("blocks.*.feed_forward_norm.weight", "h.*.ln_2.weight", "model/h*/ln_2/g"),
    Row("blocks.*.feed_forward_norm.bias", "h.*.ln_2.bias", "model/h*/ln_2/b"),
)
TOP_ROWS = (
    Row("token_embedding.weight", "wte.weight", "model/wte"),
    Row("position_embedding.weight", "wpe.weight", "model/wpe"),
    Row("final_norm.weight", "ln_f.weight", "model/ln_f/g"),
    Row("final_norm.bias", "ln_f.bias", "model/ln_f/b"),
    Row("head.weight", "lm_head.weight", "model/head"),
)
GPT1_TOP_NAMES = {"wte.weight": "tokens_embed.weight", "wpe.weight": "positions_embed.weight"}
_ROWS = {row.kit: row for row in (*BLOCK_ROWS, *TOP_ROWS)}


def published_name(kit_name: str, naming: Naming) -> str:
    """What files of that naming call the kit's parameter: `blocks.3.attention.qkv.weight` -> `h.3.attn.c_attn.weight`."""
    row, block = _find(kit_name)
    if naming == "openai":
        return row.openai.replace("*", block)
    name = row.transformers.replace("*", block)
    return GPT1_TOP_NAMES.get(name, name) if naming == "openai-gpt" else name


def published_shapes(shapes: Mapping[str, Shape], naming: Naming) -> dict[str, Shape]:
    """Kit names and shapes as they stand in a file of that naming."""
    return {published_name(name, naming): shape[::-1] if _find(name)[0].transposed else shape for name, shape in shapes.items()}


def from_published(tensors: Mapping[str, Tensor], kit_names: Iterable[str], naming: Naming) -> dict[str, Tensor]:
    """Tensors of a file, under kit names and in the kit's orientation."""
    return {name: _turned(tensors[published_name(name, naming)], name) for name in kit_names}


def to_published(tensors: Mapping[str, Tensor], naming: Naming) -> dict[str, Tensor]:
    """The kit's tensors, under a file's names and in its orientation."""
    return {published_name(name, naming): _turned(tensor, name) for name, tensor in tensors.items()}


def without_kernel_axis(tensor: Tensor) -> Tensor:
    """(1, in, out) -> (in, out): OpenAI's linear layers are convolutions over one token."""
    return tensor[0] if tensor.ndim == 3 and tensor.shape[0] == 1 else tensor


def _turned(tensor: Tensor, kit_name: str) -> Tensor:
    return tensor.t().contiguous() if _find(kit_name)[0].transposed else tensor


def _find(kit_name: str) -> tuple[Row, str]:
    """The row of the table, and the number of the block ("" outside the blocks)."""
    if not kit_name.startswith("blocks."):
        return _ROWS[kit_name], ""
    _, block, rest = kit_name.split(".", 2)
    return _ROWS[f"blocks.*.{rest}"], block
