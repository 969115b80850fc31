"""The generator against a loop that anybody can check: one prompt, the whole text read again, the most probable token taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from gpt_kit.config import ModelConfig
from gpt_kit.errors import ConfigError, InputError
from gpt_kit.evaluation import generate_text_autoregressive, text_to_token_ids, token_ids_to_text
from gpt_kit.generation import Sampling, generate_ids
from gpt_kit.model import GPTModel
from gpt_kit.tokenizers import load_tokenizer

CONTEXT = 11
PROMPTS = [[7, 3, 50], [60], [1, 2, 3, 4, 5, 6, 7, 8], [9, 9, 0, 12, 41]]
VARIANTS = [(p, n) for p in ("learned", "sinusoidal", "rotary") for n in ("pre", "post")]


@pytest.fixture(params=VARIANTS, ids="-".join)
def model(request: pytest.FixtureRequest, tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> GPTModel:
    positions, norm = request.param
    # An untied head: a tied one likes to repeat the last token, and rows of one token show little.
    return random_model(tiny_config(position_embedding=positions, norm=norm, tie_word_embeddings=False), std=0.4)


@pytest.fixture
def one_model(tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> GPTModel:
    return random_model(tiny_config(tie_word_embeddings=False), std=0.4)


@torch.no_grad()
def by_hand(model: GPTModel, prompt: list[int], count: int, context: int = CONTEXT) -> list[int]:
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids[-context:]]))[0, -1].argmax()))
    return ids[len(prompt) :]


def columns(steps) -> list[list[int | None]]:
    return [list(row) for row in zip(*steps, strict=True)]


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("count", [3, 25])  # 8 + 3 fill the context; 25 go far past it
def test_greedy_equals_the_loop_by_hand_for_unequal_prompts(model: GPTModel, use_cache: bool, count: int) -> None:
    """With and without the cache, batched with padding on the left, up to the context and past it."""
    found = columns(generate_ids(model, PROMPTS, count, use_cache=use_cache))
    assert found == [by_hand(model, prompt, count) for prompt in PROMPTS]
    assert len({tuple(row) for row in found}) > 1, "all rows are equal: nothing is shown"


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_shorter_view_back_is_kept_to(one_model: GPTModel, use_cache: bool) -> None:
    for prompt in PROMPTS:
        (found,) = columns(generate_ids(one_model, [prompt], 12, context=4, use_cache=use_cache))
        assert found == by_hand(one_model, prompt, 12, context=4)
    assert by_hand(one_model, PROMPTS[2], 12, context=4) != by_hand(one_model, PROMPTS[2], 12), "the limit changes nothing here"


def test_a_prompt_longer_than_the_context_goes_on_from_its_last_part(one_model: GPTModel) -> None:
    prompt = [(7 * i + 3) % 61 for i in range(30)]
    (found,) = columns(generate_ids(one_model, [prompt], 5))
    assert found == by_hand(one_model, prompt, 5)


def test_sampling_with_the_cache_draws_what_it_draws_without(one_model: GPTModel) -> None:
    drawn = [
        columns(generate_ids(one_model, PROMPTS, 20, sampling=Sampling(temperature=1.3, top_k=9), seed=4, use_cache=cached))
        for cached in (True, False)
    ]
    assert drawn[0] == drawn[1]


def test_the_seed_decides_and_torchs_own_state_is_left_alone(one_model: GPTModel) -> None:
    def draw(seed: int | None) -> list[list[int | None]]:
        return columns(generate_ids(one_model, [[5]], 12, sampling=Sampling(), seed=seed))

    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = draw(1)
    assert torch.equal(torch.get_rng_state(), before)
    assert first == draw(1) != draw(2)
    assert draw(None) != draw(None)


def test_a_row_that_meets_the_end_is_done_and_the_others_go_on(one_model: GPTModel) -> None:
    expected = [by_hand(one_model, prompt, 9) for prompt in PROMPTS]
    stop = expected[0][3]
    cut = [row.index(stop) if stop in row else 9 for row in expected]
    longest = max(cut)
    assert min(cut) < longest
    found = columns(generate_ids(one_model, PROMPTS, 9, stop_id=stop))
    assert found == [(row[:end] + [None] * 9)[:longest] for row, end in zip(expected, cut, strict=True)]


def test_generation_ends_at_once_when_every_row_has_ended(one_model: GPTModel) -> None:
    (first,) = by_hand(one_model, [7], 1)
    assert list(generate_ids(one_model, [[7], [7]], 50, stop_id=first)) == []


@pytest.mark.parametrize("training", [True, False])
def test_a_model_in_training_writes_without_dropout_and_stays_in_training(
    training: bool, tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]
) -> None:
    """Also when the caller walks away in the middle."""
    model = random_model(tiny_config(tie_word_embeddings=False, residual_dropout=0.5, embedding_dropout=0.5), std=0.4)
    expected = by_hand(model.eval(), [1, 2], 5)
    model.train(training)
    for use_cache in (True, False):
        steps = generate_ids(model, [[1, 2]], 5, use_cache=use_cache)
        next(steps)
        assert model.training is training
        steps.close()
        assert columns(generate_ids(model, [[1, 2]], 5, use_cache=use_cache)) == [expected]


@pytest.mark.parametrize(
    ("prompts", "options", "said"),
    [
        ([[1]], {"context": 0}, "a context of 0 tokens was asked for; this model's reaches from 1 to 11"),
        ([[1]], {"context": 12}, "a context of 12 tokens"),
        ([[]], {}, "a prompt has no tokens"),
        ([[1], []], {}, "a prompt has no tokens"),
        ([], {}, "there is no prompt"),
        ([[61]], {}, "ids from 61 to 61, but this model's vocabulary has 61 entries"),
        ([[-1, 3]], {}, "ids from -1 to 3"),
    ],
)
def test_what_cannot_be_continued_is_refused(one_model: GPTModel, prompts, options, said: str) -> None:
    with pytest.raises(InputError, match=said):
        list(generate_ids(one_model, prompts, 3, **options))


@pytest.mark.parametrize("seed", [-1, 2**63, 99999999999999999999])
def test_a_seed_out_of_range_is_refused_with_the_range(one_model: GPTModel, seed: int) -> None:
    with pytest.raises(ConfigError, match=rf"seed must be from 0 to 2\*\*63 - 1 \(9223372036854775807\); got {seed}"):
        list(generate_ids(one_model, [[1]], 3, sampling=Sampling(), seed=seed))
    assert list(generate_ids(one_model, [[1]], 1, sampling=Sampling(), seed=2**63 - 1))


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (torch.tensor([1, 2]), r"shape \(B, T\); got torch.int64 of shape \(2,\).*token_ids\[None\]"),
        (torch.tensor([[1.0, 2.5]]), "must be whole numbers.*got torch.float32"),
        (torch.tensor([[1, 61]]), "vocabulary has 61 entries"),
        (torch.tensor([[1, -1]]), "ids from -1 to 1"),
        (torch.zeros(2, 0, dtype=torch.long), "a prompt has no tokens"),
    ],
    ids=str,
)
def test_the_fixed_helper_refuses_ids_that_are_none(one_model: GPTModel, ids: torch.Tensor, said: str) -> None:
    with pytest.raises(InputError, match=said):
        generate_text_autoregressive(one_model, ids, 3)


def test_a_negative_number_of_new_tokens_is_refused(one_model: GPTModel) -> None:
    with pytest.raises(InputError, match="max_new_tokens must be 0 or more; got -1"):
        generate_text_autoregressive(one_model, torch.tensor([[1]]), -1)


def test_the_fixed_helper_continues_a_batch_of_ids(one_model: GPTModel) -> None:
    """(B, T) -> (B, T + new), greedy unless told otherwise, past the context too; the ids given come first, unchanged."""
    ids = torch.tensor([[1, 2, 3, 4], [9, 9, 0, 12]])
    for count in (1, 6, 20):
        longer = generate_text_autoregressive(one_model, ids, count)
        assert longer.shape == (2, 4 + count)
        assert torch.equal(longer[:, :4], ids)
        assert longer[:, 4:].tolist() == [by_hand(one_model, row, count) for row in ids.tolist()]
    assert torch.equal(generate_text_autoregressive(one_model, ids, 0), ids)
    narrow = generate_text_autoregressive(one_model, ids, 9, context_size=3)
    assert narrow[:, 4:].tolist() == [by_hand(one_model, row, 9, context=3) for row in ids.tolist()]


def test_the_fixed_helper_fills_ended_rows_with_the_end_token(one_model: GPTModel) -> None:
    rows = [[1, 2, 3, 4], [9, 9, 0, 12]]
    expected = [by_hand(one_model, row, 8) for row in rows]
    stop = expected[0][2]
    longer = generate_text_autoregressive(one_model, torch.tensor(rows), 8, eos_token_id=stop)[:, 4:].tolist()
    end = expected[0].index(stop)
    assert longer[0] == expected[0][:end] + [stop] * (len(longer[0]) - end)
    cut = expected[1].index(stop) if stop in expected[1] else 8
    assert longer[1][:cut] == expected[1][:cut]


def test_the_fixed_helper_passes_its_sampling_on(one_model: GPTModel) -> None:
    ids = torch.tensor([[5, 6]])
    drawn = generate_text_autoregressive(one_model, ids, 15, temperature=1.5, top_k=3, top_p=0.9, seed=2)
    assert torch.equal(drawn, generate_text_autoregressive(one_model, ids, 15, temperature=1.5, top_k=3, top_p=0.9, seed=2))
    assert not torch.equal(drawn, generate_text_autoregressive(one_model, ids, 15))
    for end in range(2, 17):  # every token drawn is one of the three most probable
        with torch.no_grad():
            logits = one_model(drawn[:, :end][:, -CONTEXT:])[0, -1]
        assert drawn[0, end] in logits.topk(3).indices
    with pytest.raises(ConfigError, match="temperature must be 0 or more; got -1"):
        generate_text_autoregressive(one_model, ids, 1, temperature=-1.0)


def test_text_becomes_a_batch_of_one_and_comes_back() -> None:
    tokenizer = load_tokenizer("gpt2")
    ids = text_to_token_ids("Hello, <|endoftext|> world 👍", tokenizer)
    assert ids.shape == (1, len(tokenizer.encode("Hello, <|endoftext|> world 👍")))
    assert 50256 not in ids
    assert token_ids_to_text(ids, tokenizer) == token_ids_to_text(ids[0], tokenizer) == "Hello, <|endoftext|> world 👍"
