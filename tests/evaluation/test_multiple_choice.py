"""ARC, HellaSwag and SST-2: the figures of lm-evaluation-harness's own `hf` model, to the last digit, on the same weights and files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt_kit.errors import DataError, InputError
from gpt_kit.evaluation import Figure, Scorer, multiple_choice
from gpt_kit.evaluation.multiple_choice import Question, encode_pairs, evaluate_questions
from gpt_kit.evaluation.tasks import TaskRunner
from gpt_kit.model import GPTModel
from gpt_kit.runtime import choose_precision
from gpt_kit.tokenizers import load_tokenizer, train_tokenizer

Harness = Callable[..., dict[str, Any]]
Files = dict[str, dict[str, Path]]
TASKS = ["arc_easy", "arc_challenge", "hellaswag", "sst2"]


@pytest.fixture(scope="module")
def runner(model_folder: Path) -> Callable[..., TaskRunner]:
    model, tokenizer = GPTModel.from_pretrained(model_folder), load_tokenizer(model_folder)
    scorer = Scorer(model=model, precision=choose_precision("float32", torch.device("cpu")))
    return lambda **settings: TaskRunner(scorer=scorer, tokenizer=tokenizer, **settings)


def same_figures(figures: list[Figure], theirs: dict[str, Any]) -> None:
    """Every figure that the harness gives, and no other; values and standard errors equal as floating-point numbers."""
    assert {f"{figure.metric},none" for figure in figures} == {key for key in theirs if key.endswith(",none") and "_stderr" not in key}
    for figure in figures:
        assert figure.value == theirs[f"{figure.metric},none"]
        assert figure.stderr == theirs[f"{figure.metric}_stderr,none"]
        assert figure.count == theirs["sample_len"]


@pytest.mark.parametrize("num_fewshot", [0, 2])
@pytest.mark.parametrize("task", TASKS)
def test_the_figures_are_the_harness_s(
    task: str,
    num_fewshot: int,
    runner: Callable[..., TaskRunner],
    harness: Harness,
    task_files: Files,
    task_yamls: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where two examples make a question longer than the context; and each answer's log-likelihood is the same."""
    likelihoods: list[float] = []
    chosen = multiple_choice._chosen

    def noted(metric: str, found: list[float], choices: tuple[str, ...]) -> int:
        likelihoods.extend(found if metric == "acc" else [])
        return chosen(metric, found, choices)

    monkeypatch.setattr(multiple_choice, "_chosen", noted)
    files = task_files[task]
    (evaluation,) = runner(num_fewshot=num_fewshot).run(task, str(files["eval"]), str(files["train"]))
    theirs = harness(task_yamls[task], num_fewshot=num_fewshot)
    same_figures(evaluation.figures, theirs["results"][task])
    assert 0 < evaluation.figures[0].value < 1
    expected = [answer[0] for sample in theirs["samples"][task] for answer in sample["filtered_resps"]]
    assert likelihoods == pytest.approx(expected, abs=1e-4)
    assert num_fewshot == 0 or evaluation.settings["truncated"] > 0


def test_the_first_questions_only(
    runner: Callable[..., TaskRunner], harness: Harness, task_files: Files, task_yamls: dict[str, Path]
) -> None:
    files = task_files["arc_easy"]
    (evaluation,) = runner(limit=7, num_fewshot=1).run("arc_easy", str(files["eval"]), str(files["train"]))
    same_figures(evaluation.figures, harness(task_yamls["arc_easy"], limit=7, num_fewshot=1)["results"]["arc_easy"])
    assert evaluation.figures[0].count == 7 and evaluation.settings["limit"] == 7


def test_groups_of_questions_change_nothing(runner: Callable[..., TaskRunner], task_files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = runner().run("hellaswag", str(task_files["hellaswag"]["eval"]))
    monkeypatch.setattr(multiple_choice, "QUESTIONS_AT_ONCE", 7)
    assert runner().run("hellaswag", str(task_files["hellaswag"]["eval"]))[0].figures == whole[0].figures


@pytest.mark.parametrize(
    ("context", "continuation"),
    [("Answer:", " yes"), ("Answer: ", "yes"), ("a \n ", " b"), ("", " begin"), ("x", "yz"), ("no", "where \n"), ("naïve", " 水水")],
)
def test_text_is_parted_as_the_harness_parts_it(context: str, continuation: str, model_folder: Path) -> None:
    """No space is lost between question and answer, and only the answer's tokens are scored."""
    pytest.importorskip("lm_eval")
    from lm_eval.models.huggingface import HFLM

    theirs = HFLM(pretrained=str(model_folder), device="cpu", dtype="float32")
    (ours,) = encode_pairs(load_tokenizer(model_folder), [(context, continuation)])
    alone = [theirs.prefix_token_id], theirs.tok_encode(continuation)
    assert (ours.context, ours.continuation) == (theirs._encode_pair(context, continuation) if context else alone)


def test_long_answers_are_not_punished_by_acc_norm(runner: Callable[..., TaskRunner]) -> None:
    """By characters, not bytes or tokens; the first of equals; an empty answer is never chosen."""
    assert multiple_choice._chosen("acc", [-3.0, -2.0, -2.0], ("水水", "abc", "d")) == 1
    assert multiple_choice._chosen("acc_norm", [-3.0, -2.0, -2.0], ("水水", "a", "b")) == 0
    assert multiple_choice._chosen("acc_norm", [-3.0, -0.1], ("a", "")) == 0
    scorer, tokenizer = runner().scorer, runner().tokenizer
    (acc,) = evaluate_questions(scorer, tokenizer, [Question("a cat", ("moves", "moves"), 0)] * 2, ["acc"]).figures
    assert (acc.value, acc.stderr, acc.count) == (1.0, 0.0, 2), "equal answers: the first one is taken"


def test_content_never_becomes_a_special_token(runner: Callable[..., TaskRunner]) -> None:
    tokenizer = runner().tokenizer
    (request,) = encode_pairs(tokenizer, [("<|endoftext|>", " <|endoftext|>")])
    assert tokenizer.end_of_text_id not in [*request.context, *request.continuation]


def test_what_cannot_be_asked_is_refused(runner: Callable[..., TaskRunner]) -> None:
    letters = train_tokenizer("char", ["abc"])
    assert letters.end_of_text_id is None
    with pytest.raises(InputError, match="begins a text, and this char tokenizer has none"):
        list(encode_pairs(letters, [("", "a")]))
    with pytest.raises(InputError, match="nothing to score after 'a cat'"):
        list(encode_pairs(runner().tokenizer, [("a cat", "")]))
    with pytest.raises(InputError, match="no question to answer"):
        evaluate_questions(runner().scorer, runner().tokenizer, [])
    with pytest.raises(DataError, match=r"cannot be (read|reached)"):
        runner().run("sst2")
