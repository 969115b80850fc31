"""Tasks that lm-evaluation-harness defines: by name, or as a YAML file of one's own; their figures as the kit's.

The harness reads the rows, builds the prompts and computes the metrics; the kit answers its requests (lm_eval_adapter.py).
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import logging
import math
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gpt_kit.config import did_you_mean
from gpt_kit.errors import ConfigError, DataError, GPTKitError, MissingExtraError
from gpt_kit.evaluation.records import Evaluation, rows_sha256
from gpt_kit.evaluation.scorer import Scorer
from gpt_kit.evaluation.statistics import Figure
from gpt_kit.tokenizers import Tokenizer

YAML_SUFFIXES = (".yaml", ".yml")


def run_harness_task(
    task: str, scorer: Scorer, tokenizer: Tokenizer, *, num_fewshot: int | None = None, limit: int = 0
) -> list[Evaluation]:
    """The figures of a task, tag or group of the harness, or of the YAML file that `task` names.

    `num_fewshot` None: as the task says. `limit` 0: all documents. Standard errors are the harness's.
    Raises: as `check_harness_task`; DataError for what the harness cannot run.
    """
    check_harness_task(task)
    from gpt_kit.evaluation.lm_eval_adapter import HarnessModel

    with _quiet():
        import lm_eval

        try:
            results = lm_eval.simple_evaluate(
                model=HarnessModel(scorer, tokenizer),
                tasks=[task],
                task_manager=_manager(task),
                num_fewshot=num_fewshot,
                limit=limit or None,
            )
        except GPTKitError:
            raise
        except Exception as error:  # of any of the libraries that it reads tasks and datasets with
            raise DataError(f"{task}: lm-evaluation-harness cannot run this task ({type(error).__name__}: {_first_line(error)})") from error
    return [_evaluation(name, results, scorer, limit) for name in results["results"] if _figures(results["results"][name])]


def check_harness_task(task: str, others: Sequence[str] = ()) -> None:
    """Raises: ConfigError for a file or name that is not there; `others` are names that may have been meant too. MissingExtraError."""
    if importlib.util.find_spec("lm_eval") is None:
        raise MissingExtraError("lm_eval", "lm-eval", f"the task {task!r}{did_you_mean(task, others)}, none of the kit's own,")
    if Path(task).is_file():
        return
    if Path(task).suffix in YAML_SUFFIXES:
        raise ConfigError(f"{task}: there is no such file. A task of your own is a YAML file as lm-evaluation-harness reads it")
    with _quiet():
        known = _every_task().all_tasks
    if task not in known:
        hint = did_you_mean(task, [*others, *known])
        raise ConfigError(f"unknown task {task!r}{hint}: neither the kit nor lm-evaluation-harness has it. A YAML file needs its path")


@functools.cache
def _every_task() -> Any:
    """The harness's own 14,000 tasks, which take seconds to list."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _manager(task: str) -> Any:
    """What builds the task; of files only groups name others."""
    from lm_eval.tasks import TaskManager

    is_alone = Path(task).is_file() and "group:" not in Path(task).read_text(encoding="utf-8", errors="replace")
    return TaskManager(include_defaults=False) if is_alone else _every_task()


def _evaluation(name: str, results: dict[str, Any], scorer: Scorer, limit: int) -> Evaluation:
    config = results["configs"].get(name, {})
    documents = {sample["doc_id"]: sample["doc"] for sample in results["samples"].get(name, [])}
    data = ":".join(str(config[key]) for key in ("dataset_path", "dataset_name") if config.get(key))
    files = (config.get("dataset_kwargs") or {}).get("data_files")
    return Evaluation(
        task=name,
        figures=_figures(results["results"][name]),
        data=f"{data} {files}" if files else data,
        data_sha256=rows_sha256(documents.values()) if documents else "",
        num_fewshot=results["n-shot"].get(name, 0),
        settings={
            "context": scorer.context, "limit": limit, "precision": scorer.precision.name,
            "lm_eval": version("lm_eval"), "version": results["versions"].get(name),
        },
    )  # fmt: skip


def _figures(result: dict[str, Any]) -> list[Figure]:
    """The harness writes "metric,filter" and "metric_stderr,filter"; the filter is told where it is one."""
    figures = []
    for key, value in result.items():
        metric, has_filter, name = key.partition(",")
        if has_filter and not metric.endswith("_stderr") and isinstance(value, int | float):
            stderr = result.get(f"{metric}_stderr,{name}")
            known = float(stderr) if isinstance(stderr, int | float) and math.isfinite(stderr) else None
            shown = metric if name == "none" else f"{metric},{name}"
            figures.append(Figure(shown, float(value), known, result["sample_len"], "documents"))
    return figures


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")[:300]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the harness's remarks on every setting that it takes by default."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # where it prints what it is at
            yield
    finally:
        logger.setLevel(level)
