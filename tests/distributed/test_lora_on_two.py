"""LoRA under DDP and FSDP2: the frozen weights and the small trained ones are spread, and come together as one process has them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from distributed_runs import finish, start

from gpt_kit.files import read_tensors

STEPS = Path(__file__).with_name("lora_steps.py")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_train_the_adapters_of_one(kind: str, tmp_path: Path) -> None:
    """After six steps, with a padded, tied vocabulary that learns too."""
    code, said = finish(start([STEPS, "ddp", tmp_path], {}))
    assert code == 0, said
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    code, said = finish(start([*torchrun, STEPS, kind, tmp_path], {}))
    assert code == 0, said
    one, two = (read_tensors(tmp_path / f"{name}.safetensors") for name in ("ddp-1", f"{kind}-2"))
    assert one.keys() == two.keys() and len([name for name in one if "lora_" in name]) == 2 * (4 * 2 + 1)
    assert one["token_embedding.weight"].shape == (61, 24) and one["token_embedding.lora_A"].shape == (3, 61)
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    assert min(one[name].abs().max().item() for name in one if name.endswith("lora_B")) > 0.01, "the control: all have moved"
