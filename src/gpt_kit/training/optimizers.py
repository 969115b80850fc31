"""AdamW, in 32 or in 8 bits (adamw_8bit.py), and Muon beside it, behind one small interface.

AdamW (Loshchilov & Hutter 2019) decays matrices only: biases and LayerNorm have no decay. Muon (Jordan et al. 2024) takes the
matrices inside the blocks, whose updates it orthogonalises; embeddings and the head stay with AdamW although they are matrices too,
for their rows are looked up, not multiplied through.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gpt_kit.config import TrainingConfig
from gpt_kit.errors import CheckpointError
from gpt_kit.model.room import GradientRoom
from gpt_kit.runtime import as_sharded, is_sharded, whole
from gpt_kit.training.adamw_8bit import AdamW8bit, is_fast

STATE_KEYS = {
    torch.optim.AdamW: {"step", "exp_avg", "exp_avg_sq"},
    AdamW8bit: {"step", "exp_avg", "exp_avg_sq", "exponents"},
    torch.optim.Muon: {"momentum_buffer"},
}
Optimizer = torch.optim.Optimizer | AdamW8bit
MUON_MOMENTUM = 0.95  # Jordan et al. 2024, the value of all published runs


class Optimizers:
    """One or two optimizers that step together. State crosses to disk as named tensors, without pickle."""

    def __init__(self, model: nn.Module, config: TrainingConfig, device: torch.device) -> None:
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        self.names: dict[Tensor, str] = {parameter: name for name, parameter in named}
        muon = [p for name, p in named if config.optimizer == "muon" and is_block_matrix(name, p)]
        rest = [p for name, p in named if config.optimizer != "muon" or not is_block_matrix(name, p)]
        groups = [
            {"params": [p for p in rest if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        ]
        rate, betas = config.learning_rate, (config.beta1, config.beta2)
        small = config.optimizer == "adamw8bit" or (config.optimizer == "auto" and is_fast(device) and not is_sharded(model))
        self.eight_bit = AdamW8bit(groups, rate, betas, GradientRoom(model), seed=config.seed) if small else None
        fused = device.type in ("cpu", "cuda")
        self.optimizers: list[Optimizer] = [self.eight_bit or torch.optim.AdamW(groups, lr=rate, betas=betas, fused=fused)]
        if muon:
            self.optimizers.append(
                torch.optim.Muon(muon, lr=config.muon_learning_rate, momentum=MUON_MOMENTUM, weight_decay=config.weight_decay)
            )
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["highest_lr"] = group["lr"]
        self.underway = False
        """Whether some weights may be updated and others not."""

    @property
    def learning_rate(self) -> float:
        """AdamW's current learning rate."""
        return float(self.optimizers[0].param_groups[0]["lr"])

    def set_learning_rate_share(self, share: float) -> None:
        """Every group's learning rate becomes this share of its highest."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["highest_lr"] * share

    def zero_grad(self, rounded: bool = False) -> None:
        """Forget all gradients. `rounded` says that one backward pass in bf16 follows: what is not added up may stay in bf16."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        if self.eight_bit:
            self.eight_bit.set_gradient_format(rounded)

    def clip_gradients(self, max_norm: float) -> Tensor:
        """As the function below; 8-bit AdamW scales gradients when it reads them."""
        return clip_gradients(self.names, max_norm) if self.eight_bit is None else self.eight_bit.clip_gradients(max_norm)

    def step(self, scaler: torch.amp.GradScaler) -> None:
        """Update the weights; a disabled scaler passes the call on. An error in here leaves `underway` true."""
        self.underway = True
        for optimizer in self.optimizers:
            scaler.step(optimizer)  # type: ignore[arg-type]
        self.underway = False

    def unscale(self, scaler: torch.amp.GradScaler) -> None:
        """Bring gradients back from fp16's loss scale; nothing to do where the scaler is disabled."""
        for optimizer in self.optimizers:
            scaler.unscale_(optimizer)  # type: ignore[arg-type]

    @property
    def state_bytes(self) -> int:
        """What all state takes once there is some."""
        if self.eight_bit:
            return sum(tensor.nbytes for state in self.eight_bit.state.values() for tensor in state.values())
        kept = [(parameter, len(STATE_KEYS[type(part)] - {"step"})) for part in self.optimizers for parameter in _parameters_of(part)]
        return sum(parameter.nbytes * number for parameter, number in kept)

    def state_tensors(self) -> dict[str, Tensor]:
        """All state as `PARAMETER/KEY` -> tensor."""
        return {
            f"{self.names[parameter]}/{key}": value
            for optimizer in self.optimizers
            for parameter, state in optimizer.state.items()
            for key, value in state.items()
        }

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `state_tensors` gave. Raises: CheckpointError for state of a parameter that is not here."""
        states: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            parameter_name, key = name.rsplit("/", 1)
            states.setdefault(parameter_name, {})[key] = tensor
        by_name = {name: parameter for parameter, name in self.names.items()}
        if unknown := states.keys() - by_name.keys():
            raise CheckpointError(f"optimizer state for {min(unknown)}, which this model does not have. The checkpoint is of another model")
        for optimizer in self.optimizers:
            for parameter in _parameters_of(optimizer):
                state = states.get(self.names[parameter], {})
                if states and state.keys() != STATE_KEYS[type(optimizer)]:
                    kind = type(optimizer).__name__
                    raise CheckpointError(
                        f"the optimizer state of {self.names[parameter]} holds {', '.join(sorted(state)) or 'nothing'}, "
                        f"which is not {kind}'s. Resume with the optimizer that the run was started with (--training.optimizer)"
                    )
                optimizer.state[parameter] = {key: as_sharded(value, parameter) for key, value in state.items()}


def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients down to `max_norm` (Pascanu et al. 2013, section 3.2) where it is above 0; gives the norm before that."""
    return whole(nn.utils.clip_grad_norm_(parameters, max_norm or math.inf))


def is_block_matrix(name: str, parameter: Tensor) -> bool:
    """Whether Muon should have it: a matrix inside a block. Embeddings and the head are matrices, and are not."""
    return name.startswith("blocks.") and parameter.ndim == 2


def _parameters_of(optimizer: Optimizer) -> Iterable[nn.Parameter]:
    return (parameter for group in optimizer.param_groups for parameter in group["params"])
