"""What a training step holds: never the whole logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from gpt_kit.config import ModelConfig
from gpt_kit.model import GPTModel
from gpt_kit.model.loss import ROWS_PER_BLOCK


class LargestOutput(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation gives, forwards or backwards."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for each in output if isinstance(output, (tuple, list)) else [output]:
            if isinstance(each, torch.Tensor) and not each.is_sparse:
                self.elements = max(self.elements, each.numel())
        return output


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_forward_and_backward_never_hold_the_whole_logits(tiny_config: Callable[..., ModelConfig], bf16: bool, tied: bool) -> None:
    """No tensor of (B·T, V), nor of more than a block of it; the plain loss over whole logits is caught by the same watch."""
    vocab, batch, tokens = 997, 80, 32
    model = GPTModel(tiny_config(vocab_size=vocab, max_position_embeddings=tokens, tie_word_embeddings=tied, n_layer=1))
    ids = torch.randint(0, vocab, (batch, tokens), generator=torch.Generator().manual_seed(5))
    largest = []
    for ours in (True, False):
        with LargestOutput() as watch, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model.loss_sum(ids, ids) if ours else F.cross_entropy(model(ids).flatten(0, 1), ids.flatten(), reduction="sum")
            loss.backward()
        largest.append(watch.elements)
    assert largest[0] == ROWS_PER_BLOCK * vocab < batch * tokens * vocab
    assert largest[1] >= batch * tokens * vocab
