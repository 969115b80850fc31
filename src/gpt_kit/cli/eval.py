"""`gpt-kit eval`: how good a model is. Figures with their counts and standard errors, printed and kept beside the run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import tyro

from gpt_kit.cli.arguments import parse
from gpt_kit.cli.figures import evaluations_file, print_evaluations

if TYPE_CHECKING:
    from gpt_kit.evaluation.records import Evaluation
    from gpt_kit.evaluation.tasks import TaskRunner


@dataclass(frozen=True, kw_only=True)
class EvalArguments:
    """Score a model on tasks. Each figure comes with the count it rests on and its standard error.

    The figures of a run are added to RUN/evaluations.jsonl, where gpt-kit report finds them.
    """

    model: tyro.conf.Positional[str]
    """A run, a checkpoint, a Hugging Face folder or hub name, or OpenAI's release files."""
    tasks: str
    """One or several, with commas between: perplexity, arc_easy, arc_challenge, hellaswag, sst2; any task, tag or group of
    lm-evaluation-harness (extra lm-eval); or the YAML file of a task of your own, as the harness reads it."""
    data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = field(default=())
    """What a task reads: FILE where there is one task, TASK=FILE for one of several; may be given several times. Of perplexity any text
    that gpt-kit prepare takes; of questions .jsonl, .json or .parquet with the columns of the dataset on the hub, which is read
    otherwise."""
    num_fewshot: int = -1
    """Examples with their answers before each question, 0 or more; -1 means as many as the task says, and none where it says nothing."""
    fewshot_data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = field(default=())
    """Where the examples come from: a file as for --data; otherwise the training rows on the hub."""
    stride: int = 0
    """Of perplexity, in tokens: how many each window scores anew, 1 to the model's context; 0 means the context: plain perplexity."""
    limit: int = 0
    """Only the first so many questions, or windows of perplexity; 0 means all."""
    batch_tokens: int = 2048
    """Tokens that the model reads at a time, 1 or more."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""
    precision: str = "float32"
    """Of the matrix products: float32, tf32, bf16, fp16, int8 as of gpt-kit serve --int8, or auto for the fastest that training has.
    Others than float32 move the last digits, and int8 those before."""
    out: str = ""
    """The file to add the figures to; empty means RUN/evaluations.jsonl for a run, and none for any other model."""


def main(words: Sequence[str]) -> None:
    """Run the tasks one after the other; what one has found is kept if the next one fails."""
    arguments = parse(EvalArguments, "eval", words)
    os.environ.setdefault("TQDM_DISABLE", "1")  # other libraries' progress bars would cross ours

    from gpt_kit.errors import ConfigError
    from gpt_kit.evaluation.records import append_evaluations, weights_sha256
    from gpt_kit.evaluation.tasks import check_task
    from gpt_kit.locate import locate_model
    from gpt_kit.runtime import tune_memory

    tasks = [name.strip() for name in arguments.tasks.split(",") if name.strip()]
    if not tasks:
        raise ConfigError("--tasks names no task. Give one or several, with commas between, such as perplexity")
    data = _files_of(tasks, arguments.data, "--data")
    examples = _files_of(tasks, arguments.fewshot_data, "--fewshot-data")
    for task in tasks:  # all of them before the first: it may take hours
        check_task(task)
    tune_memory()
    folder = locate_model(arguments.model)
    file = Path(arguments.out).expanduser() if arguments.out else evaluations_file(arguments.model, folder)
    runner = _runner(arguments, folder)
    identity = {"model": str(folder), "model_sha256": weights_sha256(folder), "command": shlex.join(["gpt-kit", "eval", *words])}
    for task in tasks:
        with _Display(task) as display:
            evaluations = runner.run(task, data.get(task, ""), examples.get(task, ""), display)
        print_evaluations(evaluations)
        for evaluation in evaluations:
            _note_truncated(evaluation)
        if file:
            append_evaluations(file, evaluations, **identity)
    if file:
        print(f"added to {file}")


def _runner(arguments: EvalArguments, folder: Path) -> TaskRunner:
    from gpt_kit.errors import ConfigError
    from gpt_kit.evaluation.int8_scorer import Int8Scorer
    from gpt_kit.evaluation.scorer import Scorer
    from gpt_kit.evaluation.tasks import TaskRunner
    from gpt_kit.model import GPTModel
    from gpt_kit.runtime import choose_device, choose_precision
    from gpt_kit.tokenizers import load_tokenizer

    for name, least in (("limit", 0), ("num_fewshot", -1), ("batch_tokens", 1)):
        if (value := getattr(arguments, name)) < least:
            raise ConfigError(f"--{name.replace('_', '-')} must be {least} or more; got {value}")
    device = choose_device(arguments.device)
    is_int8 = arguments.precision == "int8"
    precision = choose_precision("float32" if is_int8 else arguments.precision, device)
    tokenizer = load_tokenizer(folder)
    model = GPTModel.from_pretrained(folder).to(device)
    scorer = Int8Scorer(model=model) if is_int8 else Scorer(model=model, precision=precision, batch_tokens=arguments.batch_tokens)
    num_fewshot = None if arguments.num_fewshot < 0 else arguments.num_fewshot
    return TaskRunner(scorer=scorer, tokenizer=tokenizer, stride=arguments.stride, limit=arguments.limit, num_fewshot=num_fewshot)


def _files_of(tasks: list[str], words: Sequence[str], flag: str) -> dict[str, str]:
    """Task -> its file. Raises: ConfigError for a file that is nobody's."""
    from gpt_kit.errors import ConfigError

    files = {}
    for word in words:
        name, is_named, file = word.partition("=")
        if is_named and name in tasks:
            files[name] = file
        elif len(tasks) == 1:
            files[tasks[0]] = word
        else:
            raise ConfigError(f"{flag} {word}: whose is it? Of several tasks ({', '.join(tasks)}), name one: {flag} {tasks[0]}={word}")
    return files


class _Display:
    """How much of a task is done, while it runs in a terminal."""

    def __init__(self, task: str) -> None:
        from rich.progress import Progress, SpinnerColumn, TextColumn

        from gpt_kit.cli.display import console

        columns = SpinnerColumn(), TextColumn("[bold]{task.description}"), TextColumn("{task.completed:,.0f} {task.fields[unit]} scored")
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(task, total=None, unit="")

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def __call__(self, done: int, unit: str) -> None:
        self._bar.update(self._task, completed=done, unit=unit)


def _note_truncated(evaluation: Evaluation) -> None:
    from gpt_kit.cli.display import note

    if truncated := evaluation.settings.get("truncated"):
        note(f"{truncated:,} answers were scored after the end of their question only: the two are longer than this model's context")
