"""Mixed precision for your own training loop: the small door over `training.step`."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from gpt_kit.errors import DeviceError
from gpt_kit.model import IGNORE_INDEX
from gpt_kit.runtime import choose_precision
from gpt_kit.training import clip_gradients, compute_batch_loss

PRECISIONS = {"float16": "fp16", "bfloat16": "bf16", "float32": "float32", None: "float32", "auto": "auto"}


class AMPTrainer:
    """Runs steps in float16 (with a loss scale), bfloat16 or float32, on any device and with any torch optimizer.

        trainer = AMPTrainer("bfloat16")
        for input_batch, target_batch in loader:
            loss = trainer.train_step(input_batch, target_batch, model, optimizer, device)

    The scale of float16 (Micikevicius et al. 2018, section 3.2) is part of a run's state: `state_dict` and `load_state_dict`.
    """

    def __init__(self, dtype: str | None = "auto", enabled: bool = True, init_scale: float = 2.0**16, growth_interval: int = 2000) -> None:
        if dtype not in PRECISIONS:
            raise DeviceError(f"unknown dtype {dtype!r}; expected float16, bfloat16, float32 or auto")
        self.precision_name = PRECISIONS[dtype] if enabled else "float32"
        self.scaler = torch.amp.GradScaler(
            "cuda" if torch.cuda.is_available() else "cpu",
            enabled=self.precision_name == "fp16",
            init_scale=init_scale,
            growth_interval=growth_interval,
        )

    def train_step(
        self,
        input_batch: Tensor,
        target_batch: Tensor,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device | str,
        max_grad_norm: float = 1.0,
        ignore_index: int = IGNORE_INDEX,
    ) -> float:
        """One update; gives the loss before it. A gradient that is not finite changes nothing but float16's scale, which is lowered.

        Raises: DataError when no target is scored; DeviceError for a precision that the device lacks.
        """
        precision = replace(choose_precision(self.precision_name, torch.device(device)), scaler=self.scaler)
        model.train()
        optimizer.zero_grad()
        with precision.autocast():
            loss = compute_batch_loss(input_batch, target_batch, model, device, ignore_index)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(optimizer)
        if clip_gradients(model.parameters(), max_grad_norm).isfinite():
            self.scaler.step(optimizer)
        self.scaler.update()
        return loss.item()

    def state_dict(self) -> dict[str, object]:
        """The loss scale and its counters; empty where nothing is scaled."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Put back what `state_dict` gave."""
        if state:
            self.scaler.load_state_dict(state)
