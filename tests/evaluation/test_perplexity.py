"""Perplexity: every token once, from as much before it as the window has; per token, word and byte, with standard errors."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpt_kit.config import ModelConfig
from gpt_kit.errors import DataError, InputError
from gpt_kit.evaluation import Figure, Scorer, evaluate_perplexity
from gpt_kit.evaluation.perplexity import first_token_id, text_windows
from gpt_kit.evaluation.statistics import mean_figure, ratio_with_error
from gpt_kit.model import GPTModel
from gpt_kit.runtime import choose_precision
from gpt_kit.tokenizers import END_OF_TEXT, Tokenizer, load_tokenizer, train_tokenizer

TEXT = "the cat sat on the mät\nand then the dog ran under a tree"
CONTEXT = 11


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer("char", [TEXT]).with_special_tokens([END_OF_TEXT])


@pytest.fixture(scope="module")
def scorer(tokenizer: Tokenizer, tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> Scorer:
    model = random_model(tiny_config(vocab_size=tokenizer.vocab_size))
    return Scorer(model=model, precision=choose_precision("float32", torch.device("cpu")))


@torch.no_grad()
def nats_by_hand(model: GPTModel, ids: list[int], stride: int) -> list[float]:
    """Of every token of `ids` but the first, one forward pass each, with the tokens before it that its window holds."""
    nats = []
    for place in range(1, len(ids)):
        beyond = place - CONTEXT  # tokens that the first window does not reach
        end = CONTEXT + (math.ceil(beyond / stride) * stride if beyond > 0 else 0)
        start = max(0, min(end, len(ids) - 1) - CONTEXT)
        nats.append(-model(torch.tensor([ids[start:place]]))[0, -1].log_softmax(-1)[ids[place]].item())
    return nats


def by_name(figures: list[Figure]) -> dict[str, Figure]:
    return {figure.metric: figure for figure in figures}


@pytest.mark.parametrize("stride", [0, 11, 4, 1])
def test_perplexity_is_that_of_every_token_one_by_one(scorer: Scorer, tokenizer: Tokenizer, stride: int) -> None:
    figures = by_name(evaluate_perplexity(scorer, tokenizer, [TEXT], stride=stride))
    first = tokenizer.end_of_text_id
    assert first is not None
    nats = sum(nats_by_hand(scorer.model, [first, *tokenizer.encode(TEXT)], stride or CONTEXT))
    assert figures["perplexity"].value == pytest.approx(math.exp(nats / len(TEXT)), rel=1e-5)
    assert figures["perplexity"].count == len(TEXT) == 56
    assert figures["bits_per_byte"].value == pytest.approx(nats / math.log(2) / 57, rel=1e-5), "ä is two bytes"
    assert figures["byte_perplexity"].value == pytest.approx(math.exp(nats / 57), rel=1e-5)
    assert (figures["word_perplexity"].count, figures["byte_perplexity"].count) == (14, 57)
    assert figures["word_perplexity"].value == pytest.approx(math.exp(nats / 14), rel=1e-5)


def test_texts_are_scored_apart_and_weigh_what_they_hold(scorer: Scorer, tokenizer: Tokenizer) -> None:
    parts = [TEXT[:3], "", TEXT[3:5], TEXT[5:40]]
    figures = by_name(evaluate_perplexity(scorer, tokenizer, parts))
    nats = [nats_by_hand(scorer.model, [tokenizer.end_of_text_id or 0, *tokenizer.encode(part)], CONTEXT) for part in parts]
    assert figures["perplexity"].value == pytest.approx(math.exp(sum(map(sum, nats)) / 40), rel=1e-5)


def test_the_last_window_reaches_back(tokenizer: Tokenizer) -> None:
    """Each token is in one window; with more behind it than the context, a window is always full."""
    windows = [window.request for window in text_windows(TEXT, tokenizer, CONTEXT, 5)]
    assert [token for request in windows for token in request.continuation] == tokenizer.encode(TEXT)
    assert [len(request.context) + len(request.continuation) - 1 for request in windows] == [CONTEXT] * len(windows)
    assert [len(request.continuation) for request in windows] == [11, *[5] * 9]


def test_without_a_first_token_neither_it_nor_its_bytes_are_counted(
    data_folder: Path,
) -> None:
    gpt1 = load_tokenizer(data_folder / "gpt1-tokenizer")
    assert first_token_id(gpt1) is None
    (window,) = text_windows("hello world", gpt1, CONTEXT, CONTEXT)
    assert window.bytes == len("world") or window.bytes == len(" world")
    ids = gpt1.encode("hello world")
    assert [*window.request.context, *window.request.continuation] == ids


def test_the_token_before_a_text_is_bos_or_the_end_of_the_last(tokenizer: Tokenizer) -> None:
    assert first_token_id(load_tokenizer("gpt2")) == 50256
    assert first_token_id(tokenizer.with_special_tokens(["<bos>"])) == tokenizer.vocab_size


@pytest.mark.parametrize("name", ["gpt2", "byte"])
def test_bytes_and_words_of_all_windows_are_those_of_the_text(name: str) -> None:
    """Also where windows cut characters in two."""
    text = "日本語 ünd 🎉🎉 words  \n " * 9
    windows = list(text_windows(text, load_tokenizer(name), 7, 3))
    assert sum(window.bytes for window in windows) == len(text.encode())
    assert sum(window.words for window in windows) == pytest.approx(len(text.split()) + 1), "the harness counts the end as well"


def test_limit_takes_the_first_windows(scorer: Scorer, tokenizer: Tokenizer) -> None:
    counted: list[int] = []
    figures = by_name(evaluate_perplexity(scorer, tokenizer, [TEXT], stride=4, limit=3, progress=counted.append))
    assert figures["perplexity"].count == 11 + 4 + 4 == counted[-1]
    nats = nats_by_hand(scorer.model, [tokenizer.end_of_text_id or 0, *tokenizer.encode(TEXT)], 4)[:19]
    assert figures["perplexity"].value == pytest.approx(math.exp(sum(nats) / 19), rel=1e-5)


def test_standard_errors_are_those_of_windows() -> None:
    """Equal windows: the error of a mean. Unequal ones: near what leaving out one after the other gives (the jackknife)."""
    generator = torch.Generator().manual_seed(0)
    x = (3 + torch.randn(50, generator=generator)).tolist()
    assert ratio_with_error(x, [1] * 50) == pytest.approx((sum(x) / 50, torch.tensor(x).double().std().item() / 50**0.5))
    y = torch.randint(5, 20, (50,), generator=generator).tolist()
    ratio, stderr = ratio_with_error(x, y)
    left_out = torch.tensor([(sum(x) - a) / (sum(y) - b) for a, b in zip(x, y, strict=True)]).double()
    jackknife = (49 / 50 * (left_out - left_out.mean()).pow(2).sum()).sqrt().item()
    assert ratio == pytest.approx(sum(x) / sum(y)) and stderr == pytest.approx(jackknife, rel=0.03)
    assert ratio_with_error([2.0], [4]) == (0.5, None)
    assert mean_figure("acc", [1.0], "questions").stderr is None


def test_errors_of_the_figures_follow_from_that_of_the_mean(scorer: Scorer, tokenizer: Tokenizer) -> None:
    figures = by_name(evaluate_perplexity(scorer, tokenizer, [TEXT]))
    perplexity, bits = figures["perplexity"], figures["bits_per_byte"]
    windows = list(text_windows(TEXT, tokenizer, CONTEXT, CONTEXT))
    nats = [-score.log_likelihood for score in scorer.score([window.request for window in windows])]
    _, error = ratio_with_error(nats, [len(window.request.continuation) for window in windows])
    _, error_of_bytes = ratio_with_error(nats, [window.bytes for window in windows])
    assert perplexity.stderr == pytest.approx(perplexity.value * (error or 0))
    assert bits.stderr == pytest.approx((error_of_bytes or 0) / math.log(2))


def test_what_cannot_be_scored_is_refused(scorer: Scorer, tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="stride is 12 tokens; expected 1 to 11"):
        evaluate_perplexity(scorer, tokenizer, [TEXT], stride=12)
    with pytest.raises(DataError, match="no token is scored"):
        evaluate_perplexity(scorer, tokenizer, ["", ""])


def test_a_text_of_thousands_of_windows_is_scored_in_groups(scorer: Scorer, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate_perplexity(scorer, tokenizer, [TEXT] * 3, stride=2)
    monkeypatch.setattr("gpt_kit.evaluation.perplexity.WINDOWS_AT_ONCE", 7)
    for found, expected in zip(evaluate_perplexity(scorer, tokenizer, [TEXT] * 3, stride=2), whole, strict=True):
        assert found.value == pytest.approx(expected.value, rel=1e-6) and found.count == expected.count
    assert json.dumps(whole[0].value)
