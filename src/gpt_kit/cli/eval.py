"""`gpt-kit eval`: how good a model is. Figures with their counts and standard errors, printed and kept beside the run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
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
    """One or several, with commas between: perplexity."""
    data: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = field(default=())
    """What a task reads: FILE where there is one task, TASK=FILE for one of several; may be given several times. perplexity takes any
    text that gpt-kit prepare does."""
    stride: int = 0
    """Of perplexity, in tokens: how many each window scores anew, 1 to the model's context; 0 means the context: plain perplexity."""
    limit: int = 0
    """Only the first so many questions, or windows of perplexity; 0 means all."""
    batch_tokens: int = 2048
    """Tokens that the model reads at a time, 1 or more."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""
    precision: str = "float32"
    """Of the matrix products: float32, tf32, bf16, fp16, or auto for the fastest that the device has. Others than float32 move the
    last digits."""
    out: str = ""
    """The file to add the figures to; empty means RUN/evaluations.jsonl for a run, and none for any other model."""


def main(words: Sequence[str]) -> None:
    """Run the tasks one after the other; what one has found is kept if the next one fails."""
    arguments = parse(EvalArguments, "eval", words)

    from gpt_kit.evaluation.records import append_evaluations, weights_sha256
    from gpt_kit.locate import locate_model
    from gpt_kit.runtime import keep_freed_memory

    tasks = _tasks_and_data(arguments)
    keep_freed_memory()
    folder = locate_model(arguments.model)
    file = _results_file(arguments, folder)
    runner = _runner(arguments, folder)
    identity = {"model": str(folder), "model_sha256": weights_sha256(folder), "command": shlex.join(["gpt-kit", "eval", *words])}
    for task, data in tasks:
        evaluation = _with_progress(runner, task, data)
        print_evaluations([evaluation])
        if file:
            append_evaluations(file, [evaluation], **identity)
    if file:
        print(f"added to {file}")


def _runner(arguments: EvalArguments, folder: Path) -> TaskRunner:
    from gpt_kit.errors import ConfigError
    from gpt_kit.evaluation.scorer import Scorer
    from gpt_kit.evaluation.tasks import TaskRunner
    from gpt_kit.model import GPTModel
    from gpt_kit.runtime import choose_device, choose_precision
    from gpt_kit.tokenizers import load_tokenizer

    if arguments.limit < 0 or arguments.batch_tokens < 1:
        raise ConfigError(f"--limit must be 0 or more and --batch-tokens 1 or more; got {arguments.limit} and {arguments.batch_tokens}")
    device = choose_device(arguments.device)
    precision = choose_precision(arguments.precision, device)
    tokenizer = load_tokenizer(folder)
    model = GPTModel.from_pretrained(folder).to(device)
    scorer = Scorer(model=model, precision=precision, batch_tokens=arguments.batch_tokens)
    return TaskRunner(scorer=scorer, tokenizer=tokenizer, stride=arguments.stride, limit=arguments.limit)


def _tasks_and_data(arguments: EvalArguments) -> list[tuple[str, str]]:
    """Each task with the --data that is its own. Raises: ConfigError for one that is nobody's."""
    from gpt_kit.errors import ConfigError

    tasks = [name.strip() for name in arguments.tasks.split(",") if name.strip()]
    if not tasks:
        raise ConfigError("--tasks names no task. Give one or several, with commas between, such as perplexity")
    data: dict[str, str] = {}
    for word in arguments.data:
        name, is_named, source = word.partition("=")
        if is_named and name in tasks:
            data[name] = source
        elif len(tasks) == 1:
            data[tasks[0]] = word
        else:
            raise ConfigError(f"--data {word}: whose is it? Of several tasks ({', '.join(tasks)}), name one: --data {tasks[:1][0]}={word}")
    return [(name, data.get(name, "")) for name in tasks]


def _results_file(arguments: EvalArguments, folder: Path) -> Path | None:
    if arguments.out:
        return Path(arguments.out).expanduser()
    return evaluations_file(arguments.model, folder)


def _with_progress(runner: TaskRunner, task: str, data: str) -> Evaluation:
    from rich.progress import Progress, SpinnerColumn, TextColumn

    from gpt_kit.cli.display import console

    columns = SpinnerColumn(), TextColumn("[bold]{task.description}"), TextColumn("{task.completed:,.0f} {task.fields[unit]} scored")
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        shown = bar.add_task(task, total=None, unit="")
        return runner.run(task, data, lambda done, unit: bar.update(shown, completed=done, unit=unit))
