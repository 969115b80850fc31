"""What is asked of the C library and of oneDNN."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

TRAINING = """
import sys
from pathlib import Path
import torch
from gpt_kit.config import ModelConfig, TrainingConfig
from gpt_kit.data import Batch
from gpt_kit.model import GPTModel
from gpt_kit.runtime import choose_precision, tune_memory
from gpt_kit.training import Optimizers, optimizer_step

if sys.argv[1] == "tuned":
    tune_memory()
torch.manual_seed(0)
device = torch.device("cpu")
model = GPTModel(ModelConfig(vocab_size=512, n_embd=256, n_head=4, n_layer=1, max_position_embeddings=512))
optimizers = Optimizers(model, TrainingConfig(optimizer="adamw8bit"), device)
peaks = []
for length in range(100, 260, 2):
    ids = torch.randint(0, 512, (1, length))
    optimizer_step(model, optimizers, [Batch(ids, ids)], max_grad_norm=1.0, precision=choose_precision("bf16", device), device=device)
    peaks.append(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]))  # ru_maxrss begins with the parent's
print((peaks[-1] - peaks[10]) / 1024, "torch._dynamo" in sys.modules)
"""


def growth(how: str) -> tuple[float, str]:
    """MB that a process grows by in seventy steps on texts of ever new lengths, and whether it loaded torch's compiler."""
    clean = {name: value for name, value in os.environ.items() if not name.endswith("CACHE_CAPACITY")}  # other tests tune this process
    output = subprocess.run([sys.executable, "-c", TRAINING, how], check=True, capture_output=True, text=True, env=clean).stdout
    megabytes, loaded = output.split()
    return float(megabytes), loaded


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_texts_of_ever_new_lengths_do_not_fill_the_memory() -> None:
    """oneDNN's kernels for seventy lengths take hundreds of MB; a few of them are kept."""
    (tuned, loaded), (as_it_comes, _) = growth("tuned"), growth("as it comes")
    assert as_it_comes > 100 and tuned < 0.4 * as_it_comes
    assert loaded == "False", "75 MB and a second, for nothing"
