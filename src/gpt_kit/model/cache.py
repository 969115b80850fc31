"""What attention already computed: keys and values of earlier tokens, kept by the caller.

All memory is allocated once. Rows of one batch may be padded differently: `key_mask` remembers which columns are real.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gpt_kit.config import ModelConfig
from gpt_kit.errors import InputError


class KVCache:
    """Keys and values (n_layer, B, H, S, D) for up to `capacity` columns S. A new cache is empty; `length` columns are filled."""

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        capacity: int | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.capacity = capacity or config.max_position_embeddings
        shape = (config.n_layer, batch_size, config.n_head, self.capacity, config.head_width)
        self.keys = torch.empty(shape, device=device, dtype=dtype)
        self.values = torch.empty(shape, device=device, dtype=dtype)
        self.key_mask = torch.zeros(batch_size, self.capacity, dtype=torch.bool, device=device)
        self.has_padding = False
        self.length = 0

    def extend_mask(self, new: Tensor) -> Tensor:
        """Note which of the T new columns are real, (B, T); gives the mask of all columns so far, (B, S).

        Raises: InputError when the cache has no room for them.
        """
        end = self.length + new.shape[1]
        if end > self.capacity:
            raise InputError(f"the cache holds {self.capacity} tokens; {end} are too many. Make it larger or shorten the text")
        self.key_mask[:, self.length : end] = new
        return self.key_mask[:, :end]

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store one layer's new keys and values (B, H, T, D); gives all of them so far, (B, H, S, D)."""
        end = self.length + k.shape[2]
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        return self.keys[layer, :, :, :end].to(k.dtype), self.values[layer, :, :, :end].to(v.dtype)
