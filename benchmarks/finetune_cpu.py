"""Instruction tuning of GPT-2 124M on the CPU: records per second and peak memory of this kit beside transformers + TRL as they come.

Both take the same records, the same tokenizer and random weights of the same shape, 8 records an update, and learn the answers only.
TRL's SFTTrainer runs with its defaults for a data set of prompts and completions, and use_cpu, which it asks for where there is no GPU;
the kit as `gpt-kit finetune sft` does. Runs of some steps alternate in separate processes; medians of the steps after the first two,
and the largest memory that each process ever held.

    pip install trl
    python benchmarks/finetune_cpu.py --data instruction-data.json [--steps 6] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BATCH = 8
RECORDS = 1100
WARM_UP_STEPS = 2


def messages(data: str) -> list[tuple[str, str]]:
    """(question, answer) of each record."""
    from gpt_kit.data import read_conversations

    conversations = read_conversations(data)[:RECORDS]
    return [(conversation.messages[0].content, conversation.messages[1].content) for conversation in conversations]


def tune_with_kit(data: str, steps: int, folder: Path) -> list[float]:
    import torch

    from gpt_kit.config import SftRun, create_model_config
    from gpt_kit.data import ExampleBatches, read_conversations
    from gpt_kit.finetuning import encode_conversations
    from gpt_kit.model import GPTModel
    from gpt_kit.runtime import choose_precision, tune_memory
    from gpt_kit.tokenizers import chat_tokenizer, load_tokenizer
    from gpt_kit.training import Optimizers, micro_batch_rows, optimizer_step

    del folder
    tune_memory()
    torch.manual_seed(0)
    device, config = torch.device("cpu"), SftRun(model=create_model_config("gpt2"))
    model = GPTModel(config.model)
    tokenizer = chat_tokenizer(load_tokenizer("gpt2"))
    model.resize_vocabulary(tokenizer.vocab_size)
    encoded = encode_conversations(read_conversations(data)[:RECORDS], tokenizer, config.model.max_position_embeddings)
    batches = ExampleBatches(encoded.examples, batch_size=BATCH, max_length=config.model.max_position_embeddings, seed=0)
    optimizers, precision = Optimizers(model, config.training, device), choose_precision("auto", device)
    model.train()
    times = []
    for number in range(WARM_UP_STEPS + steps):
        started = time.perf_counter()
        batch = batches.batch(number)
        rows = micro_batch_rows(config, device, batch.inputs.shape[1])
        optimizer_step(model, optimizers, batch.split(rows), max_grad_norm=1.0, precision=precision, device=device)
        times.append(time.perf_counter() - started)
    return times[WARM_UP_STEPS:]


def tune_with_trl(data: str, steps: int, folder: Path) -> list[float]:
    from datasets import Dataset
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from gpt_kit.tokenizers import load_tokenizer

    load_tokenizer("gpt2").save(folder / "tokenizer")

    class Clock(TrainerCallback):  # type: ignore[misc]
        times: list[float] = []  # noqa: RUF012

        def on_step_begin(self, *_: object, **__: object) -> None:
            self.started = time.perf_counter()

        def on_step_end(self, *_: object, **__: object) -> None:
            self.times.append(time.perf_counter() - self.started)

    records = [{"prompt": question + "\n\n", "completion": answer} for question, answer in messages(data)]
    settings = SFTConfig(output_dir=str(folder / "out"), max_steps=WARM_UP_STEPS + steps, report_to=[], save_strategy="no", use_cpu=True)
    clock = Clock()
    trainer = SFTTrainer(
        model=GPT2LMHeadModel(GPT2Config()),
        args=settings,
        train_dataset=Dataset.from_list(records),
        processing_class=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        callbacks=[clock],
    )
    trainer.train()
    assert settings.per_device_train_batch_size * settings.gradient_accumulation_steps == BATCH
    return clock.times[WARM_UP_STEPS:]


TUNERS = {"transformers + TRL": tune_with_trl, "gpt-kit": tune_with_kit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="python-docs", help="records, as for gpt-kit finetune sft; the first 1,100 are taken")
    parser.add_argument("--steps", type=int, default=6, help="timed steps per process")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each kind, alternating")
    parser.add_argument("--only", choices=list(TUNERS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            times = TUNERS[arguments.only](arguments.data, arguments.steps, Path(folder))
        print(json.dumps([statistics.median(times), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
        return
    import torch

    print(f"python {sys.version.split()[0]}, torch {torch.__version__}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}")
    print(f"GPT-2 124M, {BATCH} records an update; command: python {' '.join(sys.argv)}")
    found: dict[str, list[tuple[float, float]]] = {who: [] for who in TUNERS}
    for _ in range(arguments.rounds):
        for who in TUNERS:
            command = [sys.executable, __file__, "--only", who, "--data", arguments.data, "--steps", str(arguments.steps)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            seconds, peak = json.loads(output.splitlines()[-1])
            found[who].append((BATCH / seconds, peak))
            print(
                f"{who:<20} {BATCH / seconds:5.2f} records/s, 1,100 in {RECORDS * seconds / BATCH / 60:.1f} min, {peak / 1e9:.2f} GB",
                flush=True,
            )
    rate, peak = ({who: statistics.median(run[i] for run in runs) for who, runs in found.items()} for i in (0, 1))
    peer, ours = TUNERS
    print(f"median: {rate[ours] / rate[peer]:.2f} times as fast, with {peak[ours] / peak[peer]:.2f} of the memory")


if __name__ == "__main__":
    main()
