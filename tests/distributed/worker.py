"""One process of a run under test: gpt_kit's command line, with accidents on order.

ACCIDENT=kill:1:7   in its first life, process 1 is killed as it asks for the batch of step 7 (hang: it never answers again; nan: its
                    loss is no number in that step; full: from then on it finds no room on the disk for two steps)
WORDS_OF_RANK_1=…   words that only process 1 has on its command line
FOLDER_OF_RANK_1=…  where only process 1 starts
SECONDS_PER_STEP=…  every step takes so much longer
WINDOWS=folder      each process writes down which windows it read: step, then the first id of every scored row, into folder/RANK
"""

from __future__ import annotations

import math
import os
import runpy
import signal
import sys
import time
from pathlib import Path

from torch import Tensor

from gpt_kit import files
from gpt_kit.data import Batch, TrainingBatches
from gpt_kit.model import GPTModel

rank = int(os.environ["RANK"])
accident, victim, fatal_step = os.environ.get("ACCIDENT", "none:-1:-1").split(":")
first_life = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
read_batch = TrainingBatches.batch


def batch(self: TrainingBatches, number: int, of_rank: int = 0, size: int = 1) -> Batch:
    if first_life and (rank, number) == (int(victim), int(fatal_step)):
        if accident == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if accident == "hang":
            time.sleep(600)
    happening["number"] = number
    time.sleep(float(os.environ.get("SECONDS_PER_STEP", "0")))
    found = read_batch(self, number, of_rank, size)
    if "WINDOWS" in os.environ:
        scored = (found.targets >= 0).any(dim=1)
        with open(os.path.join(os.environ["WINDOWS"], str(rank)), "a", encoding="utf-8") as file:  # noqa: PTH118
            file.writelines(f"{number} {row}\n" for row in found.inputs[scored].tolist())
    return found


def loss_sum(self: GPTModel, *arguments: Tensor, **named: Tensor) -> Tensor:
    poisoned = accident == "nan" and rank == int(victim) and self.training and happening["number"] == int(fatal_step)
    return whole_loss_sum(self, *arguments, **named) * (math.nan if poisoned else 1)


def free_bytes(path: Path) -> int:
    full = accident == "full" and rank == int(victim) and 0 <= happening["number"] - int(fatal_step) < 2
    return 1 if full else whole_free_bytes(path)


happening = {"number": -1}
whole_loss_sum, whole_free_bytes = GPTModel.loss_sum, files.free_bytes
GPTModel.loss_sum, files.free_bytes = loss_sum, free_bytes  # type: ignore[method-assign]
TrainingBatches.batch = batch  # type: ignore[method-assign]
if rank == 1:
    os.chdir(os.environ.get("FOLDER_OF_RANK_1", "."))
    sys.argv += os.environ.get("WORDS_OF_RANK_1", "").split()
runpy.run_module("gpt_kit", run_name="__main__")
