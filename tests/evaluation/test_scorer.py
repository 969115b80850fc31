"""The scorer: what shared beginnings, batches and blocks save must not be seen in the scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gpt_kit.config import ModelConfig
from gpt_kit.errors import InputError
from gpt_kit.evaluation import Request, Score, Scorer, scorer, token_trees
from gpt_kit.evaluation.int8_scorer import Int8Scorer
from gpt_kit.evaluation.token_trees import grow_trees
from gpt_kit.model import GPTModel
from gpt_kit.runtime import choose_precision

FLOAT32 = choose_precision("float32", torch.device("cpu"))
VARIANTS = [(positions, norm) for positions in ("learned", "sinusoidal", "rotary") for norm in ("pre", "post")]
QUESTIONS = [
    Request([7, 7, 3, 4], [5, 6]),
    Request([7, 7, 3, 4], [5, 6]),  # twice the same
    Request([7, 7, 3, 4], [5, 8, 9, 1]),
    Request([7, 7, 3, 4], [2]),
    Request([7, 7], [3, 4, 5]),  # ends within another
    Request([7, 7, 3, 4, 5], [6]),  # the first one, cut elsewhere
    Request([60], [0, 60]),
    Request(list(range(30, 40)), list(range(50, 54))),  # longer than the context of 11
]


@pytest.fixture(scope="module")
def model(tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> GPTModel:
    return random_model(tiny_config())


@torch.no_grad()
def alone(model: GPTModel, request: Request) -> Score:
    """One request, read as a whole by itself, with all logits."""
    ids = torch.tensor([[*request.context, *request.continuation][-12:]])
    log_probabilities = model(ids[:, :-1])[0].double().log_softmax(-1)[-len(request.continuation) :]
    targets = torch.tensor(request.continuation)
    total = log_probabilities.gather(1, targets[:, None]).sum().item()
    return Score(total, bool((log_probabilities.argmax(-1) == targets).all()))


def check(model: GPTModel, requests: Sequence[Request], batch_tokens: int = 2048) -> list[Score]:
    found = Scorer(model=model, precision=FLOAT32, batch_tokens=batch_tokens).score(requests)
    for score, request in zip(found, requests, strict=True):
        expected = alone(model, request)
        assert score.log_likelihood == pytest.approx(expected.log_likelihood, abs=2e-5)
        assert score.is_greedy == expected.is_greedy
    return found


@pytest.mark.parametrize(("positions", "norm"), VARIANTS)
def test_each_request_scores_as_if_it_came_alone(
    positions: str, norm: str, tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]
) -> None:
    found = check(random_model(tiny_config(position_embedding=positions, norm=norm, vocab_multiple=64)), QUESTIONS)
    assert found[0] == found[1], "the same request has the same score to the last bit"


@pytest.mark.parametrize("batch_tokens", [1, 9, 20])
def test_the_size_of_a_batch_changes_nothing(model: GPTModel, batch_tokens: int) -> None:
    check(model, QUESTIONS, batch_tokens)


requests = st.builds(Request, st.lists(st.integers(0, 2), min_size=1, max_size=6), st.lists(st.integers(0, 2), min_size=1, max_size=6))


@given(st.lists(requests, max_size=12), st.sampled_from([4, 9, 1024]))
@settings(max_examples=60, deadline=None)
def test_any_requests_score_as_if_each_came_alone(model: GPTModel, requests: list[Request], longest_tree: int) -> None:
    """Three tokens only, so that nearly all begin alike, branch, repeat or end within one another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_trees, "LONGEST_TREE", longest_tree)
        check(model, requests)


def test_what_is_shared_is_read_once() -> None:
    """Four answers to one question: its tokens once, and of each answer all but the last, which is predicted and never read."""
    question = list(range(20))
    answers = [[21, 22, 23], [31, 32], [31, 42, 43, 44], [51]]
    (tree,) = grow_trees([Request(question, answer) for answer in answers])
    assert len(tree.tokens) == 20 + 2 + 1 + 2, "31 stands there once, for two answers"
    assert not tree.is_one_branch
    (path,) = grow_trees([Request([1, 2, 3], [4, 5]), Request([1, 2], [3]), Request([1, 2, 3], [9])])
    assert path.tokens == [1, 2, 3, 4] and path.ends == [4, 4, 4, 4] and path.is_one_branch


def test_questions_that_share_little_do_not_share_a_row() -> None:
    few_shot = list(range(30))
    trees = list(grow_trees([Request([*few_shot, 40 + i, 50 + i], [1, 2]) for i in range(3)]))
    assert [len(tree.tokens) for tree in trees] == [30 + 3 * 3]
    assert len(list(grow_trees([Request([0, 1, *range(10 * i, 10 * i + 9)], [1]) for i in range(1, 4)]))) == 3


def test_the_head_works_only_where_something_is_scored(model: GPTModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once at each place, however many tokens are asked for there, and never on more than a block of places."""
    heads: list[int] = []
    linear = F.linear

    def counted(x: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
        if len(weight) == 64:
            heads.append(len(x))
        return linear(x, weight, *bias)

    monkeypatch.setattr(F, "linear", counted)
    monkeypatch.setattr(scorer, "ROWS_PER_BLOCK", 5)
    monkeypatch.setattr(scorer, "ROWS_IN_CACHE", 2)
    found = Scorer(model=model, precision=FLOAT32).score(QUESTIONS)
    monkeypatch.undo()
    read = [([*r.context, *r.continuation][-12:-1], len(r.continuation)) for r in QUESTIONS]
    places = {tuple(ids[: len(ids) - i]) for ids, scored in read for i in range(scored)}
    assert sum(heads) == len(places) < sum(scored for _, scored in read)
    assert max(heads) == 5
    for score, request in zip(found, QUESTIONS, strict=True):
        assert score.log_likelihood == pytest.approx(alone(model, request).log_likelihood, abs=2e-5)


def test_control_without_the_tree_branches_see_one_another(model: GPTModel) -> None:
    tokens = torch.tensor([[7, 7, 3, 4, 5, 9]])
    ends = torch.tensor([[6, 6, 6, 5, 5, 6]])  # 4 5 and 9 both continue 3
    with torch.no_grad():
        branch = model.hidden_states(torch.tensor([[7, 7, 3, 9]]))[0, -1]
        torch.testing.assert_close(model.hidden_states(tokens, subtree_ends=ends)[0, -1], branch, rtol=0, atol=1e-5)
        assert (model.hidden_states(tokens)[0, -1] - branch).abs().max() > 1e-2


def test_in_bf16_the_tree_is_the_same(model: GPTModel) -> None:
    rounded = Scorer(model=model, precision=choose_precision("bf16", torch.device("cpu"))).score(QUESTIONS)
    for score, request in zip(rounded, QUESTIONS, strict=True):
        assert score.log_likelihood == pytest.approx(alone(model, request).log_likelihood, rel=0.05)


def test_in_int8_what_is_scored_loses_a_little(tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> None:
    """The same places and tokens as in float32: the sum is near, and not the same."""
    model = random_model(tiny_config(n_embd=63), std=0.1)
    found = Int8Scorer(model=model).score(QUESTIONS)
    for score, request in zip(found, QUESTIONS, strict=True):
        expected = alone(model, request).log_likelihood
        assert score.log_likelihood == pytest.approx(expected, rel=0.03) and score.log_likelihood != expected
    (first,) = Scorer(model=model, precision=FLOAT32).score([Request([1, 2], [3])])
    greedy = next(token for token in range(61) if alone(model, Request([1, 2], [token])).is_greedy)
    assert Int8Scorer(model=model).score([Request([1, 2], [greedy])])[0].is_greedy and not first.is_greedy


@pytest.mark.parametrize("request_", [Request([], [1]), Request([1], []), Request([1], list(range(12)))])
def test_what_cannot_be_scored_is_refused(model: GPTModel, request_: Request) -> None:
    with pytest.raises(InputError, match="one of each at least, and this model's context holds 11"):
        Scorer(model=model, precision=FLOAT32).score([request_])


def test_progress_counts_requests_and_the_model_keeps_its_mode(model: GPTModel) -> None:
    counted: list[int] = []
    model.train()
    Scorer(model=model, precision=FLOAT32, batch_tokens=1).score(QUESTIONS, counted.append)
    assert model.training and counted == sorted(counted) and counted[-1] == len(QUESTIONS) and len(counted) > 2
    model.eval()
    assert Scorer(model=model, precision=FLOAT32).score([]) == []
