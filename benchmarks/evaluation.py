"""ARC-, HellaSwag- and SST-2-like questions on the CPU: the kit's scorer beside lm-evaluation-harness's own `hf` model.

Both score GPT-2 124M (random weights) in float32 on the same local files, by the harness's own task definitions, in separate processes,
so that neither allocator touches the other. Timed is what turns questions into log-likelihoods: for the harness its `loglikelihood`,
once with its default batch of 1 and once with 16; for the kit the whole task, reading the file included. Rounds alternate; the best
counts. Every figure of both must be the same to the last digit.

Questions are sentences of Python's documentation, cut to the lengths of the real sets (assumption, in words: ARC 21 and answers of 4,
HellaSwag 45 and endings of 20, SST-2 19).

    python benchmarks/evaluation.py [--questions 32] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DEFINITIONS = {"arc_easy": "arc/arc_easy", "hellaswag": "hellaswag/hellaswag", "sst2": "glue/sst2/default"}
SHARE = {"arc_easy": 1.0, "hellaswag": 0.5, "sst2": 1.0}  # of --questions: HellaSwag's are four times as long
WARM_UP = 4  # questions
MARK = "result: "
Result = dict[str, Any]  # {"seconds": …, "figures": {metric: [value, standard error]}}
Scored = Callable[[str, int], Result]  # task, limit


def write_questions(folder: Path, number: int) -> None:
    """One file of rows with the columns of the hub for each task, and the harness's definition of it on that file."""
    import lm_eval

    words = (word for word in _words() if word.isascii())
    rng = random.Random(0)

    def some(mean: float) -> str:
        return " ".join(next(words) for _ in range(max(1, round(rng.gauss(mean, mean / 3)))))

    rows = {
        "arc_easy": lambda: {"question": f"{some(21)}?", "answerKey": rng.choice("ABCD"),
                             "choices": {"text": [some(4) for _ in "ABCD"], "label": list("ABCD")}},
        "hellaswag": lambda: {"activity_label": some(2), "ctx_a": f"{some(30)}.", "ctx_b": some(15), "label": str(rng.randrange(4)),
                              "endings": [f"{some(20)}." for _ in range(4)]},
        "sst2": lambda: {"sentence": f"{some(19)} ", "label": rng.randrange(2)},
    }  # fmt: skip
    for task, row in rows.items():
        file = folder / f"{task}.jsonl"
        file.write_text("".join(json.dumps(row()) + "\n" for _ in range(round(number * SHARE[task]))))
        parts = dict.fromkeys(("train", "validation", "test"), str(file))
        changes = {"task": task, "dataset_path": "json", "dataset_name": None,
                   "dataset_kwargs": {"data_files": parts, "cache_dir": str(folder / "cache")}}  # fmt: skip
        include = f"include: {Path(lm_eval.__file__).parent}/tasks/{DEFINITIONS[task]}.yaml"
        (folder / f"{task}.yaml").write_text("\n".join([include, *(f"{key}: {json.dumps(value)}" for key, value in changes.items())]))


def _words() -> Iterator[str]:
    from gpt_kit.data import read_documents

    for document in read_documents("python-docs"):
        yield from document.text.split()


def write_model(folder: Path) -> None:
    import torch

    from gpt_kit import GPTModel, create_model_config, load_tokenizer

    torch.manual_seed(0)
    tokenizer = load_tokenizer("gpt2")
    GPTModel(create_model_config("gpt2")).save_pretrained(folder, end_of_text_id=tokenizer.end_of_text_id)
    tokenizer.save(folder)


def kit(folder: Path) -> Scored:
    import torch

    from gpt_kit import GPTModel, load_tokenizer
    from gpt_kit.evaluation import Scorer
    from gpt_kit.evaluation.tasks import TaskRunner
    from gpt_kit.runtime import choose_precision, tune_memory

    tune_memory()
    scorer = Scorer(model=GPTModel.from_pretrained(folder / "model"), precision=choose_precision("float32", torch.device("cpu")))
    tokenizer = load_tokenizer(folder / "model")

    def score(task: str, limit: int) -> Result:
        start = time.perf_counter()
        (evaluation,) = TaskRunner(scorer=scorer, tokenizer=tokenizer, limit=limit).run(task, str(folder / f"{task}.jsonl"))
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "figures": {figure.metric: [figure.value, figure.stderr] for figure in evaluation.figures}}

    return score


def harness(folder: Path, batch_size: int) -> Scored:
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    class Timed(HFLM):  # type: ignore[misc]
        seconds = 0.0

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
            start = time.perf_counter()
            try:
                return super().loglikelihood(requests, disable_tqdm=disable_tqdm)  # type: ignore[no-any-return]
            finally:
                self.seconds = time.perf_counter() - start

    model = Timed(pretrained=str(folder / "model"), dtype="float32", device="cpu", batch_size=batch_size)
    manager = TaskManager(include_defaults=False)

    def score(task: str, limit: int) -> Result:
        found = lm_eval.simple_evaluate(model=model, tasks=[str(folder / f"{task}.yaml")], task_manager=manager, limit=limit or None)
        values = {key.removesuffix(",none"): value for key, value in found["results"][task].items() if key.endswith(",none")}
        metrics = [name for name in values if not name.endswith("_stderr")]
        return {"seconds": model.seconds, "figures": {name: [values[name], values[f"{name}_stderr"]] for name in metrics}}

    return score


SIDES: dict[str, Callable[[Path], Scored]] = {
    "gpt-kit": kit,
    "lm-eval hf, batch 1": lambda folder: harness(folder, 1),
    "lm-eval hf, batch 16": lambda folder: harness(folder, 16),
}


class Side:
    """One of them, in a process of its own that scores what it is told to."""

    def __init__(self, name: str, folder: Path) -> None:
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, __file__, "--side", name, "--folder", str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )

    def score(self, task: str, limit: int = 0) -> Result:
        assert self.process.stdin and self.process.stdout
        print(task, limit, file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))  # type: ignore[no-any-return]
        sys.exit(f"the process of {' '.join(map(str, self.process.args))} has ended")


def answer(side: str, folder: Path) -> None:
    score = SIDES[side](folder)
    for line in sys.stdin:
        task, limit = line.split()
        print(MARK + json.dumps(score(task, int(limit))), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=32, help="of ARC and SST-2; half as many of HellaSwag")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        answer(arguments.side, arguments.folder)
        return
    import lm_eval
    import transformers

    from gpt_kit.runtime import describe_machine

    print(f"transformers {transformers.__version__}, lm_eval {lm_eval.__version__}, {describe_machine()}")
    totals = dict.fromkeys(SIDES, 0.0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_questions(folder, arguments.questions)
        write_model(folder / "model")
        sides = {name: Side(name, folder) for name in SIDES}
        for task in DEFINITIONS:
            for side in sides.values():
                side.score(task, WARM_UP)
            rounds = [{name: side.score(task) for name, side in sides.items()} for _ in range(arguments.rounds)]
            figures = [result["figures"] for found in rounds for result in found.values()]
            assert all(other == figures[0] for other in figures), (task, figures)
            best = {name: min(found[name]["seconds"] for found in rounds) for name in SIDES}
            totals = {name: totals[name] + best[name] for name in SIDES}
            print(f"{task:<10} {_line(best)}   figures equal: {figures[0]}", flush=True)
        for side in sides.values():
            side.process.kill()
    print(f"{'all':<10} {_line(totals)}")


def _line(seconds: dict[str, float]) -> str:
    ours = seconds["gpt-kit"]
    return ", ".join(f"{side} {value:.1f} s" + ("" if side == "gpt-kit" else f" ({value / ours:.1f} ×)") for side, value in seconds.items())


if __name__ == "__main__":
    main()
