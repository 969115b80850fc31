"""A layer that computes with more than its own weight, as LoRA's do: all that the model knows of adapters.

They are put in from outside (finetuning/lora.py). The layer's own parameters keep their names and values, so that nothing of the
adapter shows in the names of the weights; whoever asks for the weights of the model gets those that it computes with.
"""

from __future__ import annotations

from torch import Tensor, nn


class Adapted(nn.Module):
    """A linear layer or an embedding with something learned beside its `weight`, in parameters that are not named weight or bias."""

    weight: Tensor

    def merged_weight(self) -> Tensor:
        """The one weight that would do the same, of the shape of `weight`; gradients flow to what is learned."""
        raise NotImplementedError


def weight_of(layer: nn.Module) -> Tensor:
    """What a layer computes with."""
    return layer.merged_weight() if isinstance(layer, Adapted) else layer.weight  # type: ignore[return-value]
