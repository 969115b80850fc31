"""A Trainer over a tiny text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_run import Build, Ear

from gpt_kit.config import CheckpointConfig, EvaluationConfig, LoggingConfig, ModelConfig, RunConfig, TrainingConfig
from gpt_kit.data import EvaluationBatches, TokenArray, TrainingBatches
from gpt_kit.model import GPTModel
from gpt_kit.runtime import StopRequest, choose_precision
from gpt_kit.tokenizers import train_tokenizer
from gpt_kit.training import Optimizers, Trainer, TrainingState, drop_samples_after, restore_checkpoint, set_aside_after

CPU = torch.device("cpu")
TEXT = "the cat sat on the mat\nand the dog sat on the cat\n" * 12


@pytest.fixture
def build(tiny_config: Callable[..., ModelConfig], tmp_path: Path) -> Build:
    """Gives a Trainer in `tmp_path`; with `resume` it goes on from that checkpoint."""
    tokenizer = train_tokenizer("char", [TEXT])
    ids = np.array(tokenizer.encode(TEXT))

    def make(*, resume: Path | None = None, keep: int = 2, save_every: int = 0, evaluate_every: int = 2, **training: Any) -> Trainer:
        config = RunConfig(
            model=tiny_config(vocab_size=tokenizer.vocab_size, residual_dropout=0.1),
            training=TrainingConfig(**{"max_steps": 8, "batch_size": 3, "micro_batch_size": 2, "warmup_steps": 2, **training}),
            evaluation=EvaluationConfig(interval=evaluate_every, sample_tokens=2),
            checkpoints=CheckpointConfig(interval=save_every, keep=keep),
            logging=LoggingConfig(interval=1),
        )
        torch.manual_seed(config.training.seed)
        model = GPTModel(config.model)
        optimizers = Optimizers(model, config.training, CPU)
        state = restore_checkpoint(resume, model, optimizers) if resume else TrainingState()
        set_aside_after(tmp_path, state.step)
        drop_samples_after(tmp_path, state.evaluated_step)
        train = TrainingBatches(TokenArray([ids[:400]]), length=11, batch_size=3, seed=1)
        val = EvaluationBatches(TokenArray([ids[400:]]), length=11, batch_size=3)
        assert len(val) >= 2
        return Trainer(
            run=tmp_path,
            config=config,
            model=model,
            optimizers=optimizers,
            train_batches=train,
            val_batches=val,
            whole_val_batches=None,
            tokenizer=tokenizer,
            device=CPU,
            precision=choose_precision("float32", CPU),
            observers=[Ear()],
            state=state,
            stop=StopRequest(),
        )

    return make
