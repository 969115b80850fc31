"""The kit as a model of lm-evaluation-harness: the answers of its own `hf` model, in every kind of request."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gpt_kit.errors import ConfigError, DataError, InputError, MissingExtraError
from gpt_kit.evaluation import Scorer, evaluate_perplexity
from gpt_kit.evaluation.tasks import TaskRunner
from gpt_kit.model import GPTModel
from gpt_kit.runtime import choose_precision
from gpt_kit.tokenizers import load_tokenizer

lm_eval = pytest.importorskip("lm_eval")
TEXTS = ["the cat moves under the tree", "why does the water move ? the warm water moves over a plant " * 9, "naïve 水 sun\n\n  "]
PROMPTS = ["the cat", "why does energy move under a tree ? what " * 4, "a", "cold water . sun"]


@pytest.fixture(scope="module")
def hf(model_folder: Path) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(model_folder), dtype="float32", device="cpu", batch_size=1)


@pytest.fixture(scope="module")
def ours(model_folder: Path) -> Any:
    from lm_eval.api.registry import get_model

    import_module("gpt_kit.evaluation.lm_eval_adapter")
    return get_model("gpt-kit").create_from_arg_string(f"pretrained={model_folder}", {"batch_size": 1, "device": "cpu"})


def asked(*arguments: object) -> list[SimpleNamespace]:
    return [SimpleNamespace(args=each if isinstance(each, tuple) else (each,)) for each in arguments]


def test_log_likelihoods_are_those_of_hf(ours: Any, hf: Any) -> None:
    requests = asked(("the cat", " moves"), ("the cat ", "moves under"), ("", "sun"), (TEXTS[1], " water"), ("a", " naïve 水"))
    for found, expected in zip(ours.loglikelihood(requests), hf.loglikelihood(requests), strict=True):
        assert found[0] == pytest.approx(expected[0], abs=1e-4) and found[1] == expected[1]


def test_rolling_log_likelihoods_are_those_of_hf(ours: Any, hf: Any) -> None:
    """Windows too: the second text is four times as long as the context."""
    assert ours.loglikelihood_rolling(asked(*TEXTS)) == pytest.approx(hf.loglikelihood_rolling(asked(*TEXTS)), rel=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"until": ["\n\n", " the"], "max_gen_toks": 12},
        {"until": "o", "max_gen_toks": 20, "do_sample": False, "temperature": 0.0},
        {"until": [], "max_gen_toks": 40},
    ],
)
def test_greedy_text_is_that_of_hf(ours: Any, hf: Any, settings: dict[str, Any]) -> None:
    """Prompts of unequal length in one batch, and one that has to lose its beginning; stop strings are cut off."""
    requests = asked(*((prompt, settings) for prompt in PROMPTS))
    assert ours.generate_until(requests) == hf.generate_until(requests)


def test_sampled_text_and_empty_prompts(ours: Any) -> None:
    settings = {"until": [], "max_gen_toks": 9, "do_sample": True, "temperature": 1.5, "top_k": 3}
    found = ours.generate_until(asked(("the cat", settings), ("", settings)))
    assert all(found) and found == ours.generate_until(asked(("the cat", settings), ("", settings)))
    with pytest.raises(InputError, match="asks for 64 new tokens, but this model's context holds 64"):
        ours.generate_until(asked(("the cat", {"until": [], "max_gen_toks": 64})))


def test_its_own_evaluation_gives_the_figures_of_hf(ours: Any, harness: Callable[..., Any], task_yamls: dict[str, Path]) -> None:
    for task in ("hellaswag", "sst2"):
        found, expected = harness(task_yamls[task], ours)["results"][task], harness(task_yamls[task])["results"][task]
        assert found == expected and found["acc_stderr,none"] > 0


@pytest.fixture(scope="module")
def runner(model_folder: Path) -> Callable[..., TaskRunner]:
    model, tokenizer = GPTModel.from_pretrained(model_folder), load_tokenizer(model_folder)
    scorer = Scorer(model=model, precision=choose_precision("float32", torch.device("cpu")))
    return lambda **settings: TaskRunner(scorer=scorer, tokenizer=tokenizer, **settings)


def yaml_of(folder: Path, **keys: object) -> Path:
    """A task of one's own on a local file."""
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": text, "more": " cat"}) + "\n" for text in TEXTS))
    keys = {"task": "mine", "dataset_path": "json", "test_split": "test", "doc_to_text": "", "doc_to_target": "{{text}}", **keys,
            "dataset_kwargs": {"data_files": {"test": str(rows)}, "cache_dir": str(folder)}}  # fmt: skip
    (folder / "mine.yaml").write_text("\n".join(f"{key}: {json.dumps(value)}" for key, value in keys.items()))
    return folder / "mine.yaml"


def test_a_task_of_ones_own(runner: Callable[..., TaskRunner], harness: Callable[..., Any], tmp_path: Path) -> None:
    """Perplexity by the harness's definition is perplexity by the kit's."""
    task = yaml_of(tmp_path, output_type="loglikelihood_rolling")
    (evaluation,) = runner().run(str(task))
    figures = {figure.metric: figure for figure in evaluation.figures}
    expected = harness(task)["results"]["mine"]
    scorer, tokenizer = runner().scorer, runner().tokenizer
    for own in evaluate_perplexity(scorer, tokenizer, TEXTS)[1:]:
        assert figures[own.metric].value == pytest.approx(own.value, rel=1e-6)
        assert figures[own.metric].value == pytest.approx(expected[f"{own.metric},none"], rel=1e-5)
    assert evaluation.task == "mine" and evaluation.figures[0].count == 3 and "rows.jsonl" in evaluation.data
    assert len(evaluation.data_sha256) == 64 and evaluation.settings["lm_eval"] == lm_eval.__version__


def test_examples_and_limit_reach_the_harness(runner: Callable[..., TaskRunner], task_yamls: dict[str, Path]) -> None:
    (evaluation,) = runner(num_fewshot=1, limit=5).run(str(task_yamls["arc_easy"]))
    assert evaluation.num_fewshot == 1 and {figure.count for figure in evaluation.figures} == {5}


def test_generation_through_a_task(runner: Callable[..., TaskRunner], harness: Callable[..., Any], tmp_path: Path) -> None:
    settings = {"until": ["."], "max_gen_toks": 8}
    metrics = [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]
    task = yaml_of(tmp_path, output_type="generate_until", doc_to_text="{{text}}", doc_to_target="{{more}}",
                   generation_kwargs=settings, metric_list=metrics)  # fmt: skip
    (evaluation,) = runner().run(str(task))
    assert evaluation.figures[0].value == harness(task)["results"]["mine"]["exact_match,none"]


def test_what_cannot_be_run_is_one_line(runner: Callable[..., TaskRunner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"nothere.yaml: there is no such file. A task of your own is a YAML file"):
        runner().run("nothere.yaml")
    with pytest.raises(ConfigError, match="names its own data; --data and --fewshot-data are for perplexity"):
        runner().run(str(yaml_of(tmp_path)), "file.jsonl")
    task = yaml_of(tmp_path, output_type="loglikelihood_rolling", test_split="nothere")
    with pytest.raises(DataError, match=r"mine.yaml: lm-evaluation-harness cannot run this task \(KeyError: 'nothere'\)") as caught:
        runner().run(str(task))
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"the task 'perplexty' \(did you mean 'perplexity'\?\), none of the kit's own, needs"):
        runner().run("perplexty")


def test_model_arguments_that_are_none_are_refused(ours: Any) -> None:
    for arguments in ("", "pretrained=x,precison=bf16"):
        with pytest.raises(InputError, match="model_args are pretrained, device, precision and batch_tokens; got"):
            type(ours).create_from_arg_string(arguments)
