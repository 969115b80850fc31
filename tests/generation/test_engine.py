"""The engine against the plain loop: whoever else is there, whenever a request joins, its ids are those it would have alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from gpt_kit.config import ModelConfig
from gpt_kit.errors import ConfigError, InputError
from gpt_kit.generation import Engine, Event, Request, Sampling, generate_ids
from gpt_kit.generation.decoder import Decoder
from gpt_kit.generation.native_pass import Part
from gpt_kit.model import GPTModel

VARIANTS = [(p, n) for p in ("learned", "sinusoidal", "rotary") for n in ("pre", "post")]
CONTEXT = 11
SETTINGS = [
    Sampling(temperature=0),
    Sampling(),
    Sampling(temperature=0.7, top_k=9),
    Sampling(top_p=0.8, repetition_penalty=1.3),
    Sampling(temperature=1.5, min_p=0.05),
]


@pytest.fixture(params=["float32.c", "torch"], autouse=True)
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the pass in C, where it can be had, and without."""
    if request.param == "torch":
        monkeypatch.setattr("gpt_kit.generation.engine.float32_kernel", lambda: None)


@pytest.fixture(params=VARIANTS, ids="-".join)
def any_model(request: pytest.FixtureRequest, tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> GPTModel:
    positions, norm = request.param
    return random_model(tiny_config(position_embedding=positions, norm=norm, tie_word_embeddings=False, vocab_multiple=64), std=0.4)


@pytest.fixture
def model(tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> GPTModel:
    return random_model(tiny_config(tie_word_embeddings=False), std=0.4)


def alone(model: GPTModel, request: Request) -> list[int]:
    """What the plain loop writes."""
    steps = generate_ids(model, [request.prompt], request.max_new_tokens, sampling=request.sampling, seed=request.seed, use_cache=False)
    ids = [token for (token,) in steps]
    return ids[: next((i for i, token in enumerate(ids) if token in request.stop_ids), len(ids))]


def run(engine: Engine) -> dict[int, list[Event]]:
    """All events of every request."""
    events: dict[int, list[Event]] = {}
    while not engine.is_idle:
        for event in engine.step():
            events.setdefault(event.request, []).append(event)
    return events


def ids_of(events: list[Event]) -> list[int]:
    return [event.token for event in events if event.token is not None]


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_requests_that_come_and_go_write_what_they_would_write_alone(any_model: GPTModel, slots: int) -> None:
    """Greedy and drawn, with other settings each, joining at any step, far past the context."""
    rng = random.Random(slots)
    begin = [rng.randrange(61) for _ in range(6)]
    requests = [
        Request(
            prompt=[*begin[: rng.randrange(7)], *(rng.randrange(61) for _ in range(rng.randint(1, 9)))],
            max_new_tokens=rng.randint(1, 20),
            sampling=rng.choice(SETTINGS),
            seed=rng.randrange(100),
            stop_ids=frozenset(rng.sample(range(61), 2)),
        )
        for _ in range(16)
    ]
    engine, numbers, found = Engine(any_model, slots=slots), {}, {}
    waiting = list(requests)
    while waiting or not engine.is_idle:
        for _ in range(rng.randrange(3) if waiting else 0):
            if waiting:
                request = waiting.pop()
                numbers[engine.submit(request)] = request
        for event in engine.step():
            found.setdefault(event.request, []).append(event)
        assert engine.num_running <= slots
    for number, request in numbers.items():
        assert ids_of(found[number]) == alone(any_model, request)
        assert [event.end for event in found[number][:-1]] == [None] * (len(found[number]) - 1)
        assert found[number][-1].end == ("stop" if found[number][-1].token is None else "length")


def test_rounding_never_decides(model: GPTModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tokens with nearly the same logit: in the batch the wrong one is ahead, by less than rounding can do."""
    with torch.no_grad():
        model.head.weight[20:40] = model.head.weight[:20]  # each of twenty tokens has a twin
    honest = Decoder.logits

    def rounded_otherwise(self: Decoder, hidden: Tensor) -> Tensor:
        logits = honest(self, hidden).clone()
        logits[:, 20:40] += 2e-6 * logits.abs().max()
        return logits

    requests = [
        Request(prompt=[token], max_new_tokens=12, sampling=sampling, seed=token) for token in range(12) for sampling in SETTINGS[:2]
    ]
    expected = [alone(model, request) for request in requests]
    assert any(token < 20 for ids in expected for token in ids)
    monkeypatch.setattr(Decoder, "logits", rounded_otherwise)
    for close, same in ((1e-5, True), (0.0, False)):
        monkeypatch.setattr("gpt_kit.generation.engine.TOO_CLOSE", close)
        engine = Engine(model, slots=5)
        numbers = [engine.submit(request) for request in requests]
        found = run(engine)
        assert ([ids_of(found[number]) for number in numbers] == expected) is same, "0.0 is the control: then rounding does decide"


def spied(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """How many tokens of each text are read, step by step."""
    counts: list[list[int]] = []
    honest = Decoder.read

    def spy(self: Decoder, parts: Sequence[Part]) -> Tensor:
        counts.append([len(part.ids) for part in parts])
        return honest(self, parts)

    monkeypatch.setattr(Decoder, "read", spy)
    return counts


def test_what_a_slot_still_holds_is_not_read_again(model: GPTModel, monkeypatch: pytest.MonkeyPatch) -> None:
    read = spied(monkeypatch)
    engine = Engine(model, slots=3)
    prompt = [1, 2, 3, 4, 5, 6]

    def ask(ids: list[int], count: int) -> list[int]:
        request = Request(prompt=ids, max_new_tokens=count)
        number = engine.submit(request)
        found = ids_of(run(engine)[number])
        assert found == alone(model, request)
        return found

    answer = ask(prompt, 2)
    ask([*prompt, *answer, 9], 1)  # the next turn of a chat: the last new token was never read
    ask([1, 2, 3, 50], 1)  # the same beginning
    ask(prompt, 1)
    assert read == [[6], [1], [2], [1], [1]]


@pytest.mark.parametrize(
    ("shared", "expected"),
    [(6, [[7], [1, 1, 1], [1, 1, 1], [1, 1]]), (5, [[6, 6, 6], [1, 1, 1], [1, 1, 1]])],
    ids=["they wait one step and copy", "not worth waiting"],
)
def test_those_who_begin_alike_and_join_at_once(
    model: GPTModel, monkeypatch: pytest.MonkeyPatch, shared: int, expected: list[list[int]]
) -> None:
    monkeypatch.setattr("gpt_kit.generation.engine.WORTH_WAITING", 6)
    read = spied(monkeypatch)
    engine = Engine(model, slots=3)
    requests = [Request(prompt=[*range(30, 30 + shared), token], max_new_tokens=3) for token in (1, 2, 3)]
    numbers = [engine.submit(request) for request in requests]
    found = run(engine)
    assert read == expected
    assert [ids_of(found[number]) for number in numbers] == [alone(model, request) for request in requests]


def test_many_long_prompts_join_in_several_steps(model: GPTModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who writes already has a token in each of them; who comes first joins first."""
    monkeypatch.setattr("gpt_kit.generation.engine.PROMPT_TOKENS", 10)
    read = spied(monkeypatch)
    engine = Engine(model, slots=5)
    requests = [Request(prompt=[token, *range(token + 7, token + 13)], max_new_tokens=4) for token in range(5)]
    numbers = [engine.submit(request) for request in requests]
    found = run(engine)
    assert [sorted(counts) for counts in read[:3]] == [[7, 7], [1, 1, 7, 7], [1, 1, 1, 1, 7]]
    assert [ids_of(found[number]) for number in numbers] == [alone(model, request) for request in requests]


@pytest.mark.parametrize("cancels", [True, False])
def test_what_could_not_be_read_is_not_taken_for_held(model: GPTModel, monkeypatch: pytest.MonkeyPatch, cancels: bool) -> None:
    """In the step in which one joins another that writes already; both can go on, or be given up and asked again."""
    engine, failing = Engine(model, slots=2), [False]
    requests = [Request(prompt=[7, 8], max_new_tokens=4), Request(prompt=[1, 2, 3, 4], max_new_tokens=3)]
    honest = Decoder.read

    def read(self: Decoder, parts: Sequence[Part]) -> Tensor:
        if failing[0]:
            raise MemoryError
        return honest(self, parts)

    monkeypatch.setattr(Decoder, "read", read)
    numbers = [engine.submit(requests[0])]
    first = engine.step()
    numbers.append(engine.submit(requests[1]))
    failing[0] = True
    with pytest.raises(MemoryError):
        engine.step()
    failing[0] = False
    if cancels:
        for number in numbers:
            engine.cancel(number)
        assert engine.is_idle
        first, numbers = [], [engine.submit(request) for request in requests]
    found = run(engine)
    found[numbers[0]] = [*first, *found[numbers[0]]]
    assert [ids_of(found[number]) for number in numbers] == [alone(model, request) for request in requests]


@pytest.mark.parametrize("use_cache", [True, False])
def test_autocast_around_it_changes_nothing(model: GPTModel, use_cache: bool) -> None:
    expected = list(generate_ids(model, [[1, 2], [3]], 6, use_cache=use_cache))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert list(generate_ids(model, [[1, 2], [3]], 6, use_cache=use_cache)) == expected


def test_cancelled_requests_leave_at_once(model: GPTModel) -> None:
    engine = Engine(model, slots=1)
    first, second, third = (engine.submit(Request(prompt=[token], max_new_tokens=9)) for token in (1, 2, 3))
    assert [event.request for event in engine.step()] == [first] and engine.num_waiting == 2
    engine.cancel(first)
    engine.cancel(second)
    assert (engine.num_running, engine.num_waiting) == (0, 1)
    found = run(engine)
    assert list(found) == [third] and ids_of(found[third]) == alone(model, Request(prompt=[3], max_new_tokens=9))
    engine.cancel(third)
    assert engine.step() == []


def test_log_probabilities_are_the_models_own(model: GPTModel) -> None:
    """Before temperature, penalties and bias; of the prompt too, from its second token on."""
    engine = Engine(model, slots=2)
    prompt = [5, 6, 7]
    sampling = Sampling(temperature=0.5, repetition_penalty=1.5)
    request = Request(prompt=prompt, max_new_tokens=4, sampling=sampling, seed=1, bias={3: 2.0}, num_rivals=3, score_prompt=True)
    engine.submit(Request(prompt=[9, 9, 9, 9], max_new_tokens=4))
    number = engine.submit(request)  # read behind another prompt, in the same step
    events = run(engine)[number]
    ids = prompt + ids_of(events)
    with torch.no_grad():
        expected = model(torch.tensor([ids]))[0].log_softmax(dim=-1)
    scores = [*events[0].prompt_scores, *events]
    assert scores[0].log_probability is None and scores[0].token == 5 and len(scores) == len(ids)
    for place, (score, token) in enumerate(zip(scores[1:], ids[1:], strict=True)):
        assert score.token == token
        assert score.log_probability == pytest.approx(expected[place, token].item(), abs=1e-5)
        best = expected[place].topk(3)
        assert [rival for rival, _ in score.rivals] == best.indices.tolist()
        assert [value for _, value in score.rivals] == pytest.approx(best.values.tolist(), abs=1e-5)
    silent = engine.submit(Request(prompt=prompt, max_new_tokens=1))
    assert run(engine)[silent][0].log_probability is None


def test_a_bias_bends_the_choice(model: GPTModel) -> None:
    engine = Engine(model)
    number = engine.submit(Request(prompt=[1], max_new_tokens=3, bias={17: 1e4}))
    other = engine.submit(Request(prompt=[1], max_new_tokens=3))
    found = run(engine)
    assert ids_of(found[number]) == [17] * 3 and ids_of(found[other]) == alone(model, Request(prompt=[1], max_new_tokens=3))


def test_nothing_new_is_an_answer_too(model: GPTModel) -> None:
    """echo of a server: the prompt's scores, and no token."""
    engine = Engine(model)
    number = engine.submit(Request(prompt=[4, 5], max_new_tokens=0, num_rivals=0, score_prompt=True))
    (event,) = run(engine)[number]
    assert event.token is None and event.end == "length" and len(event.prompt_scores) == 2


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request(prompt=[], max_new_tokens=1), "a prompt has no tokens"),
        (Request(prompt=[61], max_new_tokens=1), "ids from 61 to 61"),
        (Request(prompt=[0, -1], max_new_tokens=1), "ids from -1 to 0"),
        (Request(prompt=[1], max_new_tokens=-1), "max_new_tokens must be 0 or more; got -1"),
        (Request(prompt=[1], max_new_tokens=1, bias={61: 1.0}), "bias is given for id 61"),
        (Request(prompt=[1], max_new_tokens=9), "a slot of this engine holds 5 tokens"),
    ],
)
def test_what_cannot_be_written_is_refused(model: GPTModel, request_: Request, said: str) -> None:
    engine = Engine(model, capacity=5)
    with pytest.raises(InputError, match=said):
        engine.submit(request_)
    with pytest.raises(ConfigError, match="seed must be"):
        engine.submit(Request(prompt=[1], max_new_tokens=1, seed=-1))
    assert engine.is_idle
