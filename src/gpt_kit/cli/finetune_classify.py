"""`gpt-kit finetune classify`: labelled texts -> a model that gives texts their labels, and how well it does beside a bag of words."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from gpt_kit.cli.finetune import parse_run, run_folder, with_short_names
from gpt_kit.config import CheckpointConfig, ClassifyConfig, ClassifyRun, EvaluationConfig, LoggingConfig, TrainingConfig
from gpt_kit.errors import ConfigError

if TYPE_CHECKING:
    from gpt_kit.cli.labelled import ClassifyTask
    from gpt_kit.evaluation.classification import Confusion
    from gpt_kit.evaluation.records import Evaluation
    from gpt_kit.training import Trainer


@dataclass(frozen=True, kw_only=True)
class ClassifyArguments:
    """Teach a model to give texts their labels. Settings come from the TOML file, then from the command line."""

    out: Path | None = None
    """The run's folder. By default runs/NAME-classify, after the model."""
    config: Path | None = None
    """A TOML file with settings, such as configs/gpt1-sst2.toml."""
    base: Annotated[str, tyro.conf.arg(name="model")] = ""
    """The model to start from: short for --classify.base."""
    data: Annotated[str, tyro.conf.arg(name="data")] = ""
    """The labelled texts: short for --classify.data."""
    val: Annotated[str, tyro.conf.arg(name="val")] = ""
    """Labelled texts to validate on: short for --classify.val."""
    text_key: str = ""
    """The column or key of the text: short for --classify.text-key."""
    label_key: str = ""
    """The column or key of the label: short for --classify.label-key."""
    resume: str = ""
    """Go on with a run: 'auto' finds its newest sound checkpoint (and starts, if --data is given and there is none), or name a folder."""
    classify: ClassifyConfig = field(default_factory=ClassifyConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)


def main(words: Sequence[str]) -> None:
    """Read the settings, train, measure, and say what to do with the result."""
    arguments = parse_run(ClassifyArguments, ClassifyRun, "classify", words)
    sections = {name: getattr(arguments, name) for name in ("classify", "training", "evaluation", "checkpoints", "logging")}
    short = {name: getattr(arguments, name) for name in ("base", "data", "val", "text_key", "label_key")}
    config = ClassifyRun(**{**sections, "classify": with_short_names(arguments.classify, **short)})
    config = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, sample_tokens=0))
    if not config.classify.base or not config.classify.data:
        missing = "a model to start from (--model)" if not config.classify.base else "labelled texts to learn from (--data)"
        raise ConfigError(f"finetune classify needs {missing}: gpt-kit finetune classify --model runs/a --data train.tsv --out runs/labels")

    from gpt_kit.cli.display import console
    from gpt_kit.cli.labelled import start_classification
    from gpt_kit.training import draw_loss_text, points_of, read_metrics

    run = run_folder(arguments.out, config.classify.base, "classify")
    trainer, task = start_classification(config, run, arguments.resume)
    if not trainer.world.is_main:
        return
    console.print(draw_loss_text(points_of(read_metrics(run / "metrics.jsonl"), "train/loss")))
    if task.val is not None:
        _measure(run, trainer, task, shlex.join(["gpt-kit", "finetune", "classify", *words]))
    console.print(f"curve   {run}/loss.png\nmodel   {trainer.state.step} steps, in {run}/checkpoints")
    console.print(f"next    gpt-kit classify {shlex.quote(str(run))} {shlex.quote(task.train.texts[0][:60])}")


def _measure(run: Path, trainer: Trainer, task: ClassifyTask, command: str) -> None:
    """The figures of the run's best checkpoint and of its last, and those of a bag of words that learned from the same texts."""
    from gpt_kit.cli.display import console
    from gpt_kit.cli.figures import print_evaluations
    from gpt_kit.evaluation.confusion import confusion_lines, draw_confusion_png
    from gpt_kit.evaluation.records import EVALUATIONS, append_evaluations, weights_sha256
    from gpt_kit.locate import best_checkpoint
    from gpt_kit.training import checkpoint_folder

    best, last = best_checkpoint(run), checkpoint_folder(run, trainer.state.step)
    confusion = _confusion(best, trainer, task)
    found = [(best, _evaluation(task, "classify", confusion))]
    if last != best:
        found.append((last, _evaluation(task, "classify (last step)", _confusion(last, trainer, task))))
    found += [(best, evaluation) for evaluation in _bag_of_words(task)]
    print_evaluations([evaluation for _, evaluation in found])
    console.print("\n".join(confusion_lines(confusion, task.train.names)))
    draw_confusion_png(run / "confusion.png", confusion, task.train.names, f"{run.name}, {best.name}: {confusion.sum():,} texts")
    for folder, evaluation in found:
        identity = {"model": str(folder), "model_sha256": weights_sha256(folder), "command": command}
        append_evaluations(run / EVALUATIONS, [evaluation], **identity)
    console.print(f"matrix  {run}/confusion.png, of the best, {best.name}")


def _confusion(folder: Path, trainer: Trainer, task: ClassifyTask) -> Confusion:
    from gpt_kit.evaluation.classification import confusion_matrix
    from gpt_kit.evaluation.labels import label_probabilities
    from gpt_kit.model import GPTClassifier

    assert task.val is not None and task.val_ids is not None
    model = GPTClassifier.from_pretrained(folder).to(trainer.device)
    batch_size = task.config.training.batch_size
    probabilities = label_probabilities(model, task.val_ids, precision=trainer.precision, batch_size=batch_size)
    return confusion_matrix(task.val.labels, probabilities.argmax(dim=1).tolist(), len(model.labels))


def _bag_of_words(task: ClassifyTask) -> list[Evaluation]:
    from gpt_kit.evaluation.bag_of_words import BagOfWords
    from gpt_kit.evaluation.classification import confusion_matrix

    if not task.config.classify.bag_of_words or task.val is None:
        return []
    answers = BagOfWords(task.train.texts, task.train.labels, len(task.train.names))(task.val.texts)
    return [_evaluation(task, "bag of words", confusion_matrix(task.val.labels, answers, len(task.val.names)))]


def _evaluation(task: ClassifyTask, name: str, confusion: Confusion) -> Evaluation:
    from gpt_kit.evaluation.classification import classification_figures
    from gpt_kit.evaluation.records import Evaluation
    from gpt_kit.files import sha256_of_file

    source = task.config.classify.val or task.config.classify.data
    settings = {"precision": task.config.training.precision, "set_aside": not task.config.classify.val}
    return Evaluation(
        task=name, figures=classification_figures(confusion), data=source, data_sha256=sha256_of_file(Path(source)), settings=settings
    )
