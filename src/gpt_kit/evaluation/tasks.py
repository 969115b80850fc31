"""Tasks by name: `perplexity`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt_kit.config import did_you_mean
from gpt_kit.data import read_documents
from gpt_kit.errors import ConfigError
from gpt_kit.evaluation.perplexity import evaluate_perplexity
from gpt_kit.evaluation.records import Evaluation
from gpt_kit.evaluation.scorer import Scorer
from gpt_kit.files import sha256_of_file
from gpt_kit.tokenizers import Tokenizer

PERPLEXITY = "perplexity"
Progress = Callable[[int, str], None]
"""Called with how much is done, and of what."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRunner:
    """A model and how to score it."""

    scorer: Scorer
    tokenizer: Tokenizer
    stride: int = 0
    limit: int = 0

    def run(self, task: str, data: str = "", progress: Progress = lambda *_: None) -> Evaluation:
        """The figures of one task, on `data` where that is given. Raises: ConfigError for an unknown task, DataError for its data."""
        if task == PERPLEXITY:
            return self._perplexity(data, progress)
        raise ConfigError(f"unknown task {task!r}{did_you_mean(task, [PERPLEXITY])}")

    def _perplexity(self, source: str, progress: Progress) -> Evaluation:
        if not source:
            raise ConfigError("perplexity of which text? Name it: --data FILE")
        digest = hashlib.sha256()

        def texts() -> Iterator[str]:
            for document in read_documents(source):
                digest.update(document.text.encode(errors="replace"))
                yield document.text

        figures = evaluate_perplexity(
            self.scorer, self.tokenizer, texts(), stride=self.stride, limit=self.limit, progress=lambda done: progress(done, "tokens")
        )
        data_sha256 = sha256_of_file(Path(source)) if Path(source).is_file() else digest.hexdigest()
        settings = {"stride": self.stride or self.scorer.context, "context": self.scorer.context, **self._settings}
        return Evaluation(task=PERPLEXITY, figures=figures, data=source, data_sha256=data_sha256, settings=settings)

    @property
    def _settings(self) -> dict[str, int | str]:
        return {"limit": self.limit, "precision": self.scorer.precision.name}
