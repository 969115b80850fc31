"""One model, several processes: from the model that is built, saved and sampled to the module that a step trains.

With one process they are the same. DDP trains a wrapper that shares the model's parameters, FSDP2 the model itself, cut up in place;
so neither leaves a trace in the names of the weights, and a checkpoint opens in a world of any size.
"""

from __future__ import annotations

from torch import Tensor, nn

from gpt_kit.config import TrainingConfig
from gpt_kit.errors import ConfigError
from gpt_kit.evaluation import LANGUAGE_MODELLING, Objective, ObjectiveSums
from gpt_kit.model import GPTModel
from gpt_kit.runtime import World, drop_gathered, gather, is_sharded, shard, share_gradients

# What an objective may call beside forward.
METHODS = ("loss_sum", "label_logits_and_loss_sum")


def spread(model: GPTModel, world: World, config: TrainingConfig, objective: Objective = LANGUAGE_MODELLING) -> nn.Module:
    """What `optimizer_step` is to train. Every process gives the same weights; parameters may be others afterwards.

    Raises: ConfigError for Muon or 8-bit AdamW with FSDP2.
    """
    if world.size == 1:
        return model
    if config.parallel == "ddp":
        return share_gradients(ObjectiveSums(model, objective))
    if config.optimizer not in ("auto", "adamw"):
        raise ConfigError(
            f"training.optimizer {config.optimizer} needs whole matrices, which training.parallel fsdp cuts up. Use ddp, or adamw"
        )
    shard(model, model.blocks, methods=[method for method in METHODS if hasattr(model, method)])
    return model


def gather_weights(model: GPTModel, world: World) -> dict[str, Tensor]:
    """`model.exported_tensors()` in whole tensors for the main process, nothing for the others; all must call."""
    drop_gathered(model)
    return gather(model.exported_tensors(), keep=world.is_main)


def gathered(model: GPTModel, world: World) -> GPTModel:
    """The model with whole weights, for the main process to use alone; the others must call too, and get it as it was.

    That is the model itself unless it is sharded; then it is a copy.
    """
    if not is_sharded(model):
        return model
    tensors = gather_weights(model, world)
    if not world.is_main:
        return model
    copy = GPTModel(model.config).to(model.device)
    copy.load_tensors(tensors)
    return copy
