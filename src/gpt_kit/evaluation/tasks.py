"""Tasks by name: perplexity of a text, questions with given answers (questions.py), and whatever lm-evaluation-harness knows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt_kit.data import read_documents
from gpt_kit.errors import ConfigError
from gpt_kit.evaluation.lm_eval_tasks import check_harness_task, run_harness_task
from gpt_kit.evaluation.multiple_choice import evaluate_questions
from gpt_kit.evaluation.perplexity import evaluate_perplexity
from gpt_kit.evaluation.questions import QUESTION_TASKS, questions_of
from gpt_kit.evaluation.records import Evaluation
from gpt_kit.evaluation.rows import Rows, read_rows
from gpt_kit.evaluation.scorer import Scorer
from gpt_kit.files import sha256_of_file
from gpt_kit.tokenizers import Tokenizer

PERPLEXITY = "perplexity"
TASKS = (PERPLEXITY, *QUESTION_TASKS)
Progress = Callable[[int, str], None]
"""Called with how much is done, and of what."""


def check_task(task: str) -> None:
    """Raises: ConfigError for a task that is not known; MissingExtraError where only the harness could know it, and it is not here."""
    if task not in TASKS:
        check_harness_task(task, TASKS)


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRunner:
    """A model and how to score it."""

    scorer: Scorer
    tokenizer: Tokenizer
    stride: int = 0
    """Of perplexity, in tokens; 0: the context."""
    limit: int = 0
    """The first so many questions or windows; 0: all."""
    num_fewshot: int | None = None
    """Examples before each question; None: as many as the task says, and none where it says nothing."""

    def run(self, task: str, data: str = "", examples: str = "", progress: Progress = lambda *_: None) -> list[Evaluation]:
        """The figures of one task. `data` and `examples` are local files, empty: what the task names on the hub.

        Raises: as `check_task`; ConfigError for settings that do not fit it, DataError for its data.
        """
        check_task(task)
        if task == PERPLEXITY:
            return [self._perplexity(data, progress)]
        if task in QUESTION_TASKS:
            return [self._questions(task, data, examples, self.num_fewshot or 0, progress)]
        if data or examples:
            raise ConfigError(f"the task {task!r} names its own data; --data and --fewshot-data are for {', '.join(TASKS)}")
        return run_harness_task(task, self.scorer, self.tokenizer, num_fewshot=self.num_fewshot, limit=self.limit)

    def _perplexity(self, source: str, progress: Progress) -> Evaluation:
        if not source or self.num_fewshot:
            problem = "takes no examples (--num-fewshot)" if source else "of which text? Name it: --data FILE"
            raise ConfigError(f"{PERPLEXITY} {problem}")
        digest = hashlib.sha256()

        def texts() -> Iterator[str]:
            for document in read_documents(source):
                digest.update(document.text.encode(errors="replace"))
                yield document.text

        figures = evaluate_perplexity(
            self.scorer, self.tokenizer, texts(), stride=self.stride, limit=self.limit, progress=lambda done: progress(done, "tokens")
        )
        data_sha256 = sha256_of_file(Path(source)) if Path(source).is_file() else digest.hexdigest()
        settings = {"stride": self.stride or self.scorer.context, **self._settings}
        return Evaluation(task=PERPLEXITY, figures=figures, data=source, data_sha256=data_sha256, settings=settings)

    def _questions(self, name: str, data: str, examples: str, num_fewshot: int, progress: Progress) -> Evaluation:
        task = QUESTION_TASKS[name]
        rows = read_rows(data, task.dataset)
        rows = Rows(rows.rows[: self.limit or None], rows.name, rows.sha256)
        shown = read_rows(examples, task.examples) if num_fewshot else None
        questions = questions_of(task, rows, shown, num_fewshot)
        results = evaluate_questions(
            self.scorer, self.tokenizer, questions, task.metrics, progress=lambda done: progress(done, "questions")
        )
        settings = {"truncated": results.truncated, **self._settings, **({"examples_sha256": shown.sha256} if shown else {})}
        return Evaluation(
            task=name, figures=results.figures, data=rows.name, data_sha256=rows.sha256, num_fewshot=num_fewshot, settings=settings
        )

    @property
    def _settings(self) -> dict[str, int | str]:
        return {"context": self.scorer.context, "limit": self.limit, "precision": self.scorer.precision.name}
