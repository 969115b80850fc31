"""Gradients in bf16, where the optimizer reads that, and one block of memory for them and for what comes before.

A product of bf16 matrices is bf16; autograd copies each into the format of its weight, which `Tensor.grad_dtype` can spare. And what a
step frees and the next one asks for again, in hundreds of pieces between activations of other sizes, leaves gaps in the heap. So such
gradients have places of their own, which stay from step to step (Megatron-LM's `main_grad`). Until the backward pass writes a
gradient, its place holds the weight rounded to bf16, which the forward pass has multiplied with and the backward pass needs once more.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn


class GradientRoom:
    """Places for the linear layers and embeddings of a model."""

    def __init__(self, model: nn.Module) -> None:
        layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Embedding)]
        weights = [layer.weight for layer in layers if layer.weight.requires_grad]
        borders = itertools.pairwise(itertools.accumulate((weight.numel() for weight in weights), initial=0))
        self._places = {weight: slice(*ends) for weight, ends in zip(weights, borders, strict=True)}
        self._block: Tensor | None = None
        for weight in weights:
            weight.gradient_room = self  # type: ignore[attr-defined]

    def place(self, weight: Tensor) -> Tensor:
        """That of `weight`: bf16, of its shape."""
        if self._block is None:
            self._block = torch.empty(sum(weight.numel() for weight in self._places), dtype=torch.bfloat16)
        return self._block[self._places[weight]].view(weight.shape)

    def clear(self) -> None:
        """Give the memory back, once no gradient lies in it any more."""
        self._block = None


def gradient_dtype(weight: Tensor) -> torch.dtype:
    """The format in which the gradient of `weight` is wanted."""
    return (weight.grad_dtype if weight.is_leaf else None) or weight.dtype


def free_place(weight: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Where the gradient of `weight` belongs, if it is wanted in this format, has a place, and is not yet there."""
    room: GradientRoom | None = getattr(weight, "gradient_room", None)
    wanted = room is not None and dtype == gradient_dtype(weight) == torch.bfloat16 and weight.grad is None
    return room.place(weight) if wanted and room is not None else None


def rounded(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """`weight` in the format of a product; where it has a free place, in that."""
    place = free_place(weight, dtype)
    return weight.to(dtype) if place is None else place.copy_(weight)


def rounded_before(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """What `rounded` gave, in the backward pass of the same step."""
    place = free_place(weight, dtype)
    return weight.to(dtype) if place is None else place


def put_gradient(left: Tensor, right: Tensor, weight: Tensor) -> Tensor | None:
    """left @ right, the gradient of `weight`, for autograd; None where it is now in its place, and is `weight.grad`."""
    place = free_place(weight, left.dtype)
    if place is None:
        return (left @ right).to(gradient_dtype(weight))
    weight.grad = torch.mm(left, right, out=place)
    return None
