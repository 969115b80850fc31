"""Writing 256 tokens with GPT-2 124M (random weights) on the CPU: tokens per second of one, eight and 32 streams.

The engine in float32 and in int8 beside `transformers`' generate (float32, greedy, its own cache) and CTranslate2 in int8. Each has a
process of its own; rounds alternate, and the best of each counts. Every stream has another prompt of 16 tokens, and writes all 256.
With --text it also says what int8 costs: the perplexity of a trained model on that text, in both.

    pip install ctranslate2
    python benchmarks/decode_cpu.py [--rounds 3] [--streams 1 8 32] [--model runs/a --text valid.txt]
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PROMPT, NEW = 16, 256
Write = Callable[[list[list[int]]], int]  # prompts -> tokens written


def prompts(number: int, start: int) -> list[list[int]]:
    return [[(start + 7919 * (stream * PROMPT + i)) % 50000 for i in range(PROMPT)] for stream in range(number)]


def with_transformers(folder: Path) -> Write:
    import torch
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(folder).eval()

    def write(texts: list[list[int]]) -> int:
        ids = torch.tensor(texts)
        mask = torch.ones_like(ids)
        with torch.inference_mode():
            whole = model.generate(ids, attention_mask=mask, do_sample=False, min_new_tokens=NEW, max_new_tokens=NEW, pad_token_id=0)
        return int(whole.numel() - ids.numel())

    return write


def with_ctranslate2(folder: Path) -> Write:
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    converted = folder / "ctranslate2"
    if not converted.exists():
        TransformersConverter(str(folder)).convert(str(converted), quantization="int8")
        names = json.loads((converted / "config.json").read_text())
        (converted / "config.json").write_text(json.dumps(names | dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")))
    vocabulary = json.loads((converted / "vocabulary.json").read_text())
    generator = ctranslate2.Generator(str(converted), device="cpu", intra_threads=0, compute_type="int8")

    def write(texts: list[list[int]]) -> int:
        tokens = [[vocabulary[token] for token in text] for text in texts]
        found = generator.generate_batch(tokens, max_length=NEW, min_length=NEW, sampling_topk=1, include_prompt_in_result=False)
        return sum(len(result.sequences_ids[0]) for result in found)

    return write


def with_kit(folder: Path, int8: bool) -> Write:
    from gpt_kit import GPTModel
    from gpt_kit.generation import Engine, Request
    from gpt_kit.runtime import tune_memory

    tune_memory()
    model = GPTModel.from_pretrained(folder)
    engines: dict[int, Engine] = {}

    def write(texts: list[list[int]]) -> int:
        if len(texts) not in engines:
            engines[len(texts)] = Engine(model, slots=len(texts), int8=int8, capacity=PROMPT + NEW)
        engine = engines[len(texts)]
        for text in texts:
            engine.submit(Request(prompt=text, max_new_tokens=NEW))
        number = 0
        while not engine.is_idle:
            number += len(engine.step())
        return number

    return write


WRITERS: dict[str, Callable[[Path], Write]] = {
    "transformers, float32": with_transformers,
    "gpt-kit, float32": lambda folder: with_kit(folder, int8=False),
    "CTranslate2, int8": with_ctranslate2,
    "gpt-kit, int8": lambda folder: with_kit(folder, int8=True),
}


def measure(who: str, folder: Path, streams: Sequence[int]) -> dict[str, float]:
    write = WRITERS[who](folder)
    rates = {}
    for number in streams:
        write(prompts(number, start=0))  # memory is touched, kernels are made
        others = prompts(number, start=1)  # of which no cache knows a beginning
        started = time.perf_counter()
        rates[str(number)] = write(others) / (time.perf_counter() - started)
    return rates


def write_model(folder: Path) -> None:
    import torch

    from gpt_kit import GPTModel, create_model_config, load_tokenizer

    torch.manual_seed(0)
    tokenizer = load_tokenizer("gpt2")
    GPTModel(create_model_config("gpt2")).save_pretrained(folder, end_of_text_id=tokenizer.end_of_text_id)
    tokenizer.save(folder)


def perplexity(model: str, text: str, int8: bool) -> float:
    """Of the first windows of a text, by the engine's own scores of its prompt."""
    from gpt_kit import GPTModel, load_tokenizer
    from gpt_kit.generation import Engine, Request
    from gpt_kit.locate import locate_model

    folder = locate_model(model)
    loaded = GPTModel.from_pretrained(folder)
    context = loaded.config.max_position_embeddings
    ids = load_tokenizer(folder).encode(Path(text).read_text(encoding="utf-8")[:100_000])
    engine, scores = Engine(loaded, slots=1, int8=int8), []
    for start in range(0, len(ids) - context, context):
        engine.submit(Request(prompt=ids[start : start + context], max_new_tokens=0, num_rivals=0, score_prompt=True))
        scores += [score.log_probability for event in engine.step() for score in event.prompt_scores[1:]]
    return math.exp(-sum(scores) / len(scores))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--model", help="a trained model, for the cost of int8")
    parser.add_argument("--text", help="and a text that it has not seen")
    parser.add_argument("--only", choices=WRITERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments.only, arguments.folder, arguments.streams)))
        return
    import torch

    from gpt_kit.runtime import describe_machine

    print(f"{describe_machine()}, {torch.get_num_threads()} threads; command: python {' '.join(sys.argv)}")
    best: dict[str, dict[str, float]] = {who: {} for who in WRITERS}
    with tempfile.TemporaryDirectory() as temporary:
        write_model(Path(temporary))
        for _ in range(arguments.rounds):
            for who in WRITERS:
                command = [sys.executable, __file__, "--only", who, "--folder", temporary, "--streams", *map(str, arguments.streams)]
                output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
                found = json.loads(output.splitlines()[-1])
                print(f"{who:<22}" + "".join(f"{rate:9.1f}" for rate in found.values()), flush=True)
                best[who] = {number: max(rate, best[who].get(number, 0.0)) for number, rate in found.items()}
    print(f"\n{'best, tokens/s':<22}" + "".join(f"{number:>9}" for number in arguments.streams) + "  streams")
    for who, rates in best.items():
        print(f"{who:<22}" + "".join(f"{rate:9.1f}" for rate in rates.values()))
    for ours, peer in (("gpt-kit, float32", "transformers, float32"), ("gpt-kit, int8", "CTranslate2, int8")):
        print(
            f"{ours} / {peer}: "
            + ", ".join(f"{best[ours][n]:.0f} / {best[peer][n]:.0f} = {best[ours][n] / best[peer][n]:.2f}" for n in best[ours])
        )
    if arguments.model and arguments.text:
        exact, rounded = (perplexity(arguments.model, arguments.text, int8) for int8 in (False, True))
        print(f"perplexity {exact:.3f} in float32, {rounded:.3f} in int8: {100 * (rounded / exact - 1):+.2f} %")


if __name__ == "__main__":
    main()
