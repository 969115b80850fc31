r"""From the rows of ARC, HellaSwag and SST-2 to questions, with the prompts of lm-evaluation-harness 0.4 and its examples.

ARC        Clark et al. 2018, arXiv:1803.05457     Question: {question}\nAnswer:                                         test
HellaSwag  Zellers et al. 2019, arXiv:1905.07830   {activity}: {beginning of a description}                              validation
SST-2      Socher et al. 2013; GLUE, Wang 2018     {sentence}\nQuestion: Is this sentence positive or negative?\nAnswer: validation

Their test sets of HellaSwag and SST-2 have no answers, hence validation. Examples before a question (`num_fewshot`) come from the
training rows, drawn for one question after the other from Python's generator with FEWSHOT_SEED.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from gpt_kit.config import did_you_mean
from gpt_kit.data.hub import HubText
from gpt_kit.errors import DataError
from gpt_kit.evaluation.multiple_choice import Question
from gpt_kit.evaluation.rows import SENTIMENTS, Rows

FEWSHOT_SEED = 1234  # lm_eval.defaults.DEFAULT_OTHER_SEED
BETWEEN_EXAMPLES = "\n\n"
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class QuestionTask:
    """Where a task's rows come from, and what they ask."""

    dataset: HubText
    question: Callable[[Row], Question]
    metrics: tuple[str, ...] = ("acc", "acc_norm")
    leaves_out_itself: bool
    """An example may not be the question itself; the harness sees to that only where a task has no test set."""

    @property
    def examples(self) -> HubText:
        """Where its examples come from."""
        return replace(self.dataset, split="train")


def arc(row: Row) -> Question:
    """One of three to five answers, which are labelled by letters or numbers."""
    choices = row["choices"]
    return Question(f"Question: {row['question']}\nAnswer:", tuple(choices["text"]), list(choices["label"]).index(row["answerKey"]))


def hellaswag(row: Row) -> Question:
    """One of four ways in which a description goes on. Marks in brackets are left-overs of the WikiHow part."""
    context = _cleaned(f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}")
    return Question(context, tuple(_cleaned(ending) for ending in row["endings"]), int(row["label"]))


def _cleaned(text: str) -> str:
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def sst2(row: Row) -> Question:
    """A sentence of a film review."""
    context = f"{row['sentence']}\nQuestion: Is this sentence positive or negative?\nAnswer:"
    return Question(context, SENTIMENTS, int(row["label"]))


_ARC, _GLUE = "allenai/ai2_arc", "nyu-mll/glue"
QUESTION_TASKS = {
    "arc_easy": QuestionTask(
        dataset=HubText(repository=_ARC, config="ARC-Easy", split="test"), question=arc, leaves_out_itself=False
    ),
    "arc_challenge": QuestionTask(
        dataset=HubText(repository=_ARC, config="ARC-Challenge", split="test"), question=arc, leaves_out_itself=False
    ),
    "hellaswag": QuestionTask(
        dataset=HubText(repository="Rowan/hellaswag", split="validation"), question=hellaswag, leaves_out_itself=True
    ),
    "sst2": QuestionTask(
        dataset=HubText(repository=_GLUE, config="sst2", split="validation"), question=sst2, metrics=("acc",), leaves_out_itself=True
    ),
}  # fmt: skip


def questions_of(task: QuestionTask, rows: Rows, examples: Rows | None = None, num_fewshot: int = 0) -> Iterator[Question]:
    """The questions of `rows`, each after `num_fewshot` examples. Raises: DataError for a row that lacks a column or has no answer."""
    rng = random.Random(FEWSHOT_SEED)
    pool = [row for row, _ in examples.rows] if examples else []
    for row, where in rows.rows:
        question = _question(task, row, where)
        shown = _drawn(rng, pool, num_fewshot, row if task.leaves_out_itself else None)
        before = "".join(_question(task, example, "an example").answered + BETWEEN_EXAMPLES for example in shown)
        yield replace(question, context=before + question.context)


def _question(task: QuestionTask, row: Row, where: str) -> Question:
    try:
        question = task.question(row)
    except KeyError as error:
        (key,) = error.args
        columns = ", ".join(map(repr, row)) or "none"
        raise DataError(f"{where}: there is no column {key!r}{did_you_mean(str(key), row)}; columns here: {columns}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: this row is no question with an answer ({error})") from None
    if not 0 <= question.answer < len(question.choices):
        raise DataError(f"{where}: the right answer is number {question.answer} of {len(question.choices)}; test sets often have none")
    return question


def _drawn(rng: random.Random, pool: list[Row], number: int, itself: Row | None) -> list[Row]:
    """Examples as the harness draws them (api/samplers.py). Raises: DataError where there are too few."""
    if not number:
        return []
    if len(pool) < number + (itself is not None):
        raise DataError(f"{len(pool)} rows of examples are too few to draw {number} from for each question (--num-fewshot)")
    if itself is None:
        return rng.sample(pool, number)
    drawn = [row for row in rng.sample(pool, number + 1) if row != itself][:number]
    others = [row for row in pool if row != itself]
    return drawn if len(drawn) == number else rng.sample(others, number)
