"""The sampling rules against closed forms on a handful of tokens, and their order."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gpt_kit.errors import ConfigError
from gpt_kit.generation import Sampling
from gpt_kit.generation.sampling import Noise, keep_min_p, keep_top_k, keep_top_p, penalize_repetition

PROBABILITIES = torch.tensor([[0.05, 0.4, 0.15, 0.3, 0.1], [0.96, 0.01, 0.01, 0.01, 0.01]])
LOGITS = PROBABILITIES.log()


def kept(logits: Tensor) -> list[set[int]]:
    return [{i for i, value in enumerate(row) if value > -math.inf} for row in logits.tolist()]


def test_top_k_keeps_the_k_largest_of_each_row() -> None:
    assert kept(keep_top_k(LOGITS, 1)) == [{1}, {0}]
    assert kept(keep_top_k(LOGITS[:1], 3)) == [{1, 3, 2}]
    for k in (0, 5, 99):
        assert torch.equal(keep_top_k(LOGITS, k), LOGITS)


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (0.01, [{1}, {0}]),  # the most probable one always stays
        (0.39, [{1}, {0}]),
        (0.41, [{1, 3}, {0}]),
        (0.69, [{1, 3}, {0}]),
        (0.71, [{1, 3, 2}, {0}]),
        (0.94, [{1, 3, 2, 4}, {0}]),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(p: float, expected: list[set[int]]) -> None:
    assert kept(keep_top_p(LOGITS, p)) == expected


def test_top_p_of_one_changes_nothing() -> None:
    assert torch.equal(keep_top_p(LOGITS, 1), LOGITS)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 5), (0.12, 5), (0.13, 4), (0.3, 3), (0.7, 2), (0.8, 1), (1.0, 1)])
def test_min_p_keeps_a_share_of_the_most_probable(share: float, expected: int) -> None:
    """0.4 leads, so 0.05 is an eighth of it, 0.1 a quarter, 0.15 three eighths, 0.3 three quarters."""
    ranked = [1, 3, 2, 4, 0]
    assert kept(keep_min_p(LOGITS, share))[0] == set(ranked[:expected])


def test_what_is_kept_keeps_its_logits() -> None:
    for filtered in (keep_top_k(LOGITS, 2), keep_top_p(LOGITS, 0.6), keep_min_p(LOGITS, 0.3)):
        where = filtered > -math.inf
        assert torch.equal(filtered[where], LOGITS[where])


def test_repetition_is_penalised_on_either_side_of_zero() -> None:
    """Seen tokens: positive logits are divided, negative ones multiplied, once, however often a token came."""
    logits = torch.tensor([[2.0, -2.0, 1.0, -1.0], [2.0, -2.0, 1.0, -1.0]])
    seen = [[0, 1, 1], [3, 3]]
    expected = torch.tensor([[1.0, -4.0, 1.0, -1.0], [2.0, -2.0, 1.0, -2.0]])
    before = logits.clone()
    assert torch.equal(penalize_repetition(logits, seen, 2.0), expected)
    assert torch.equal(penalize_repetition(logits, seen, 1.0), logits)
    assert torch.equal(logits, before)


def choose(sampling: Sampling, logits: Tensor, seen: list[list[int]] | None = None, seed: int = 0) -> list[int]:
    noise = sampling.noise([Noise(seed + row) for row in range(len(logits))], logits.shape[-1])
    return sampling.scores(logits, seen or [[]] * len(logits), noise).argmax(dim=-1).tolist()


def test_greedy_takes_the_most_probable_after_the_penalty() -> None:
    seen = [[1], [0]]
    logits = torch.tensor([[0.0, 3.0, 2.5, 0.0], [9.0, 1.0, 0.0, 0.0]])
    assert choose(Sampling(temperature=0), logits, seen) == [1, 0]
    assert choose(Sampling(temperature=0, repetition_penalty=2.0), logits, seen) == [2, 0]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.05, 0.4, 0.15, 0.3, 0.1]),
        ({"temperature": 0.5}, [p**2 / 0.285 for p in (0.05, 0.4, 0.15, 0.3, 0.1)]),
        ({"top_k": 2}, [0, 4 / 7, 0, 3 / 7, 0]),
        ({"top_p": 0.75}, [0, 0.4 / 0.85, 0.15 / 0.85, 0.3 / 0.85, 0]),
        ({"min_p": 0.7}, [0, 4 / 7, 0, 3 / 7, 0]),
        # temperature first: at 0.5 the leader has 0.56 and is a nucleus of 0.5 alone; at 1 it would take two
        ({"temperature": 0.5, "top_p": 0.5}, [0, 1, 0, 0, 0]),
    ],
    ids=str,
)
def test_draws_follow_the_distribution(settings: dict[str, float], expected: list[float]) -> None:
    """20,000 draws with a fixed seed: each share within five standard errors, and what is ruled out never comes."""
    draws = 20_000
    noise = Noise(3)
    sampling = Sampling(**settings)
    logits = LOGITS[:1].expand(draws, -1)
    chosen = sampling.scores(logits, [[]] * draws, noise.gumbel(draws * 5).view(draws, 5)).argmax(dim=-1)
    shares = torch.bincount(chosen, minlength=5) / draws
    for share, probability in zip(shares.tolist(), expected, strict=True):
        assert abs(share - probability) <= 5 * math.sqrt(probability * (1 - probability) / draws)


def test_half_precision_logits_are_drawn_from_too() -> None:
    assert len(choose(Sampling(top_p=0.9), LOGITS.bfloat16())) == 2


def test_a_nucleus_wider_than_the_usual_is_found_by_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(3, 200, generator=torch.Generator().manual_seed(0))
    expected = [kept(keep_top_p(logits, p)) for p in (0.2, 0.9, 0.999)]
    monkeypatch.setattr("gpt_kit.generation.sampling.USUALLY_ENOUGH", 7)
    assert [kept(keep_top_p(logits, p)) for p in (0.2, 0.9, 0.999)] == expected


def test_noise_is_a_function_of_the_seed_alone() -> None:
    assert torch.equal(Noise(5).gumbel(9), Noise(5).gumbel(9))
    assert not torch.equal(Noise(5).gumbel(9), Noise(6).gumbel(9))
    drawn = Noise(0).gumbel(100_000)
    assert abs(drawn.mean().item() - 0.5772) < 0.02 and abs(drawn.var().item() - math.pi**2 / 6) < 0.03


@pytest.mark.parametrize("temperature", [1e-5, 1e-30, 1e-45, 5e-324])
def test_a_tiny_temperature_is_greedy(temperature: float) -> None:
    """Logits of GPT-2's size divided by it are infinite, and infinity minus infinity is no number."""
    logits = torch.tensor([[-30.0, 95.0, 94.0], [-99.0, -97.0, -98.0]])
    for rule in ({}, {"top_k": 2, "top_p": 0.9, "min_p": 0.1}):
        assert choose(Sampling(temperature=temperature, **rule), logits) == choose(Sampling(temperature=0), logits) == [1, 1]


def test_all_bad_settings_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Sampling(temperature=-0.1, top_k=-1, top_p=0.0, min_p=1.1, repetition_penalty=0.0)
    for name in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty"):
        assert f"- {name} must be" in str(caught.value)


@pytest.mark.parametrize("settings", [{"temperature": math.nan}, {"temperature": math.inf}, {"top_p": math.nan}, {"min_p": math.nan}])
def test_settings_that_are_no_numbers_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Sampling(**settings)
