"""Tasks by name: perplexity of a text, and questions with given answers (questions.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt_kit.config import did_you_mean
from gpt_kit.data import read_documents
from gpt_kit.errors import ConfigError
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


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRunner:
    """A model and how to score it."""

    scorer: Scorer
    tokenizer: Tokenizer
    stride: int = 0
    """Of perplexity, in tokens; 0: the context."""
    limit: int = 0
    """The first so many questions or windows; 0: all."""
    num_fewshot: int = 0
    """Examples before each question."""

    def run(self, task: str, data: str = "", examples: str = "", progress: Progress = lambda *_: None) -> list[Evaluation]:
        """The figures of one task. `data` and `examples` are local files, empty: what the task names on the hub.

        Raises: ConfigError for an unknown task or settings that do not fit it, DataError for its data.
        """
        if task == PERPLEXITY:
            return [self._perplexity(data, progress)]
        if task in QUESTION_TASKS:
            return [self._questions(task, data, examples, progress)]
        raise ConfigError(f"unknown task {task!r}{did_you_mean(task, TASKS)}. Tasks: {', '.join(TASKS)}")

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

    def _questions(self, name: str, data: str, examples: str, progress: Progress) -> Evaluation:
        task = QUESTION_TASKS[name]
        rows = read_rows(data, task.dataset)
        rows = Rows(rows.rows[: self.limit or None], rows.name, rows.sha256)
        shown = read_rows(examples, task.examples) if self.num_fewshot else None
        questions = questions_of(task, rows, shown, self.num_fewshot)
        results = evaluate_questions(
            self.scorer, self.tokenizer, questions, task.metrics, progress=lambda done: progress(done, "questions")
        )
        settings = {"truncated": results.truncated, **self._settings, **({"examples_sha256": shown.sha256} if shown else {})}
        return Evaluation(
            task=name, figures=results.figures, data=rows.name, data_sha256=rows.sha256, num_fewshot=self.num_fewshot, settings=settings
        )

    @property
    def _settings(self) -> dict[str, int | str]:
        return {"context": self.scorer.context, "limit": self.limit, "precision": self.scorer.precision.name}
