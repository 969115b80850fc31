"""`gpt-kit classify`: texts -> labels, each with its probability; or how well a file's labels are given."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import tyro

from gpt_kit.cli.arguments import parse

if TYPE_CHECKING:
    from pathlib import Path

    from gpt_kit.data import LabelledTexts
    from gpt_kit.model import GPTClassifier
    from gpt_kit.runtime import Precision
    from gpt_kit.tokenizers import Tokenizer


@dataclass(frozen=True, kw_only=True)
class ClassifyArguments:
    """Give texts the labels that a model was taught with `gpt-kit finetune classify`."""

    model: tyro.conf.Positional[str]
    """A run, a checkpoint, or a Hugging Face folder or hub name of a GPT-2 or GPT-1 for sequence classification."""
    texts: tyro.conf.Positional[tuple[str, ...]] = field(default=())
    """The texts, each in quotes; '-' reads them from stdin, one a line."""
    data: str = ""
    """Measure on a file of labelled texts instead (.tsv, .csv, .jsonl, .json)."""
    text_key: str = ""
    """The column or key of the text in --data; empty: the usual names."""
    label_key: str = ""
    """The column or key of the label in --data; empty: the usual names."""
    json: bool = False
    """Answer with one JSON object a line, which has the probability of every label."""
    batch_size: int = 32
    """Texts that are read at a time, 1 or more."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""
    precision: str = "float32"
    """Of the matrix products: float32, tf32, bf16, fp16, or auto for the fastest that the device has."""


def main(words: Sequence[str]) -> None:
    """Load the model and answer."""
    arguments = parse(ClassifyArguments, "classify", words)

    from gpt_kit.data import LabelledTexts, read_labelled
    from gpt_kit.errors import ConfigError, DataError
    from gpt_kit.locate import locate_model
    from gpt_kit.model import GPTClassifier
    from gpt_kit.runtime import choose_device, choose_precision
    from gpt_kit.tokenizers import load_tokenizer

    if bool(arguments.texts) == bool(arguments.data):
        raise ConfigError("give texts to label, each in quotes (or - for stdin), or else labelled texts to measure on: --data FILE")
    if arguments.batch_size < 1:
        raise ConfigError(f"--batch-size must be at least 1; got {arguments.batch_size}")
    device = choose_device(arguments.device)
    precision = choose_precision(arguments.precision, device)
    folder = locate_model(arguments.model)
    tokenizer = load_tokenizer(folder)
    model = GPTClassifier.from_pretrained(folder).to(device)
    if arguments.data:
        labelled = read_labelled(arguments.data, text_key=arguments.text_key, label_key=arguments.label_key, names=model.labels)
        _measure(arguments, words, folder, labelled, _probabilities(model, tokenizer, labelled, precision, arguments.batch_size))
        return
    texts = _lines_of_stdin() if arguments.texts == ("-",) else list(arguments.texts)
    if not all(text.strip() for text in texts) or not texts:
        raise DataError("there is no text to label: one that was given is empty" if texts else "stdin holds no text to label")
    unknown = LabelledTexts(tuple(texts), (0,) * len(texts), model.labels, tuple(f"text {i}" for i in range(1, len(texts) + 1)))
    _answer(arguments, model.labels, texts, _probabilities(model, tokenizer, unknown, precision, arguments.batch_size))


def _answer(arguments: ClassifyArguments, labels: Sequence[str], texts: Sequence[str], probabilities: list[list[float]]) -> None:
    width = max(map(len, labels))
    for text, row in zip(texts, probabilities, strict=True):
        best = row.index(max(row))
        if arguments.json:
            shown = {label: round(probability, 6) for label, probability in zip(labels, row, strict=True)}
            print(json.dumps({"label": labels[best], "probabilities": shown, "text": text}, ensure_ascii=False))
        else:
            print(f"{labels[best]:<{width}}  {row[best]:.3f}  {text}")


def _measure(
    arguments: ClassifyArguments, words: Sequence[str], folder: Path, data: LabelledTexts, probabilities: list[list[float]]
) -> None:
    from pathlib import Path

    from gpt_kit.cli.figures import evaluations_file, print_evaluations
    from gpt_kit.evaluation.classification import classification_figures, confusion_matrix
    from gpt_kit.evaluation.confusion import confusion_lines
    from gpt_kit.evaluation.records import Evaluation, append_evaluations, weights_sha256
    from gpt_kit.files import sha256_of_file

    confusion = confusion_matrix(data.labels, [row.index(max(row)) for row in probabilities], len(data.names))
    source = Path(arguments.data)
    evaluation = Evaluation(
        task="classify", figures=classification_figures(confusion), data=str(source), data_sha256=sha256_of_file(source),
        settings={"precision": arguments.precision},
    )  # fmt: skip
    print_evaluations([evaluation])
    print("\n".join(confusion_lines(confusion, data.names)))
    if file := evaluations_file(arguments.model, folder):
        command = shlex.join(["gpt-kit", "classify", *words])
        append_evaluations(file, [evaluation], model=str(folder), model_sha256=weights_sha256(folder), command=command)
        print(f"added to {file}")


def _probabilities(
    model: GPTClassifier, tokenizer: Tokenizer, texts: LabelledTexts, precision: Precision, batch_size: int
) -> list[list[float]]:
    from gpt_kit.cli.display import note
    from gpt_kit.data import LabelledIds
    from gpt_kit.evaluation.labels import label_probabilities

    context = model.config.max_position_embeddings
    ids = LabelledIds(texts, tokenizer, context)
    if ids.num_cut:
        note(f"{ids.num_cut:,} texts are longer than the model's context of {context} tokens; their ends are not read")
    rows: list[list[float]] = label_probabilities(model, ids, precision=precision, batch_size=batch_size).tolist()
    return rows


def _lines_of_stdin() -> list[str]:
    from gpt_kit.cli.arguments import read_prompt

    return [line for line in read_prompt("-").splitlines() if line.strip()]
