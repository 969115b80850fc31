"""One process of some steps of LoRA: lora_steps.py KIND FOLDER writes A and B and the merged weights, brought together."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from gpt_kit.config import LoraConfig, ModelConfig, TrainingConfig
from gpt_kit.data import Batch
from gpt_kit.files import write_tensors
from gpt_kit.finetuning import add_lora, lora_tensors
from gpt_kit.model import GPTModel
from gpt_kit.runtime import choose_precision, gather, start_world
from gpt_kit.training import Optimizers, optimizer_step, spread
from gpt_kit.training.parallel import gather_weights

kind, folder, device = sys.argv[1], Path(sys.argv[2]), torch.device("cpu")
shape = {"vocab_size": 61, "vocab_multiple": 16, "max_position_embeddings": 16, "n_embd": 24, "n_head": 3, "n_layer": 2}
no_dropout = {f"{place}_dropout": 0.0 for place in ("embedding", "attention", "residual")}
with start_world(device, 60) as world:
    torch.manual_seed(0)
    model = GPTModel(ModelConfig(**shape, **no_dropout))
    add_lora(model, LoraConfig(rank=3, targets=("qkv", "projection", "expand", "contract", "token_embedding")))
    config = TrainingConfig(parallel=kind)
    spread_model = spread(model, world, config)
    optimizers = Optimizers(model, config, device)
    optimizers.set_learning_rate_share(20.0)
    ids = torch.randint(0, 61, (6, 4, 16), generator=torch.Generator().manual_seed(1))
    precision = choose_precision("float32", device)
    for batch in ids:
        mine = batch[world.rank :: world.size]
        optimizer_step(spread_model, optimizers, [Batch(mine, mine)], max_grad_norm=1.0, precision=precision, device=device, world=world)
    adapters = gather(lora_tensors(model), keep=world.is_main)
    weights = gather_weights(model, world)
    if world.is_main:
        write_tensors(folder / f"{kind}-{world.size}.safetensors", {**adapters, **weights})
os._exit(0)  # as gpt_kit's own processes leave: gloo's threads may outlive the interpreter (pytorch issue 190489)
