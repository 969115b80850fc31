"""Several processes, one model: torch's two ways, applied from outside to a finished module.

ddp    every process holds the whole model; gradients are averaged while the backward pass runs (Li et al. 2020, "PyTorch Distributed").
fsdp   every process holds its share of each tensor; a block's weights are gathered just before it runs and dropped after it
       (FSDP2; Zhao et al. 2023, "PyTorch FSDP"). Less memory, more talk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn


def share_gradients(module: nn.Module) -> nn.Module:
    """DDP: a module with the same forward, whose gradients are averaged over all processes. It starts from rank 0's weights."""
    (device,) = {parameter.device for parameter in module.parameters()}
    devices = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(module, device_ids=devices, gradient_as_bucket_view=True)


def shard(module: nn.Module, parts: Iterable[nn.Module], methods: Iterable[str]) -> None:
    """FSDP2, in place: `parts` are gathered one by one as they run, the rest of `module` for as long as it runs.

    `methods` are those that are called beside forward. Every process must hold the same weights before.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    device = next(module.parameters()).device
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for part in parts:
        fully_shard(part, mesh=mesh)
    fully_shard(module, mesh=mesh)
    for method in methods:
        register_fsdp_forward_method(module, method)


def is_sharded(module: nn.Module) -> bool:
    """Whether `shard` was applied to it."""
    return hasattr(module, "reshard")


def drop_gathered(module: nn.Module) -> None:
    """Let a sharded module forget the weights that a forward pass without a backward left gathered."""
    if is_sharded(module):
        module.reshard()  # type: ignore[operator]


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be sharded; every process must ask at once."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def gather(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Tensors, of which the sharded ones are brought together on the CPU one by one; every process must ask. Nothing without `keep`."""
    gathered = {}
    for name, tensor in tensors.items():
        full = whole(tensor)
        if keep:
            gathered[name] = full if full is tensor else full.cpu()
    return gathered


def as_sharded(tensor: Tensor, parameter: Tensor) -> Tensor:
    """`tensor` on the device of `parameter` and, where they have one shape, sharded as that is. Every process holds it whole before."""
    tensor = tensor.to(parameter.device)
    if not hasattr(parameter, "full_tensor") or tensor.shape != parameter.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements, src_data_rank=None)  # type: ignore[attr-defined]
