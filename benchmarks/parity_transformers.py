"""How far logits and gradients of GPT-1 and GPT-2 124M are from those of `transformers`, with the same random weights, in float32.

Three rows of 64 tokens, two of them padded on the left or on the right, or none. The gradient is that of the mean loss over all pairs
of real tokens; both sides' are compared by the names of the published checkpoint.

    python benchmarks/parity_transformers.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from gpt_kit import GPTModel
from gpt_kit.weights import save_weights

T = 64
PADDED = {0: 20, 1: 5}  # row -> tokens of padding


def build(kind: str) -> torch.nn.Module:
    """The model of `transformers`, with biases that are not zero."""
    if kind == "gpt2":
        model: torch.nn.Module = transformers.GPT2LMHeadModel(transformers.GPT2Config())
    else:
        model = transformers.OpenAIGPTLMHeadModel(transformers.OpenAIGPTConfig())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and "ln" not in name:
                parameter.normal_(0, 0.05)
    return model.eval()


def attention_mask(side: str) -> Tensor:
    mask = torch.ones(3, T, dtype=torch.long)
    for row, width in PADDED.items():
        if side != "none":
            mask[row, slice(0, width) if side == "left" else slice(T - width, T)] = 0
    return mask


def loss(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    scored = mask[:, 1:].bool() & mask[:, :-1].bool()
    return torch.nn.functional.cross_entropy(logits[:, :-1][scored], ids[:, 1:][scored])


def main() -> None:
    print(f"python {sys.version.split()[0]}, torch {torch.__version__}, transformers {transformers.__version__}")
    torch.manual_seed(0)
    for kind in ("gpt2", "openai-gpt"):
        theirs = build(kind)
        with tempfile.TemporaryDirectory() as temporary:
            theirs.save_pretrained(temporary)
            ours = GPTModel.from_pretrained(temporary)
            for side in ("none", "left", "right"):
                mask = attention_mask(side)
                ids = torch.randint(0, ours.config.vocab_size, (3, T))
                theirs.zero_grad()
                ours.zero_grad()
                expected = theirs(ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)).logits
                found = ours(ids, mask)
                loss(expected, ids, mask).backward()
                loss(found, ids, mask).backward()
                folder = Path(temporary) / side
                folder.mkdir()
                save_weights(folder, ours.config, {name: parameter.grad for name, parameter in ours.named_parameters()})
                gradients = load_file(folder / "model.safetensors")
                wanted = {name: parameter.grad for name, parameter in theirs.named_parameters()}
                assert gradients.keys() == wanted.keys(), gradients.keys() ^ wanted.keys()
                apart = max((gradients[name] - gradient).abs().max().item() for name, gradient in wanted.items())
                logits_apart = (found - expected)[mask.bool()].abs().max().item()
                print(f"{kind:<11} padding {side:<6} logits {logits_apart:.1e} apart, gradients {apart:.1e} ({len(wanted)} tensors)")


if __name__ == "__main__":
    main()
