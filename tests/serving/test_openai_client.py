"""The official client, unchanged: what it sends is understood, what it gets fits its own types, and streams equal whole answers."""

from __future__ import annotations

from typing import Any

import openai
import pytest
import torch
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gpt_kit.generation import Sampling, generate_ids
from gpt_kit.model import GPTModel
from gpt_kit.tokenizers import Message, Tokenizer, render_chat

SAMPLED = {"temperature": 1.3, "seed": 5, "max_tokens": 30}
USER = [{"role": "user", "content": "héllo"}]


def test_greedy_text_is_that_of_the_plain_generator(served: Any, model: GPTModel, tokenizer: Tokenizer) -> None:
    ids = [token for (token,) in generate_ids(model, [tokenizer.encode("abc")], 20, stop_id=tokenizer.end_of_text_id, use_cache=False)]
    with served.openai() as client:
        answer = client.completions.create(model="tiny", prompt="abc", max_tokens=20, temperature=0)
    assert answer.choices[0].text == tokenizer.decode(tokenizer.encode("abc") + ids)[3:]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 20, 23)
    assert (answer.object, answer.model, answer.choices[0].finish_reason) == ("text_completion", "tiny", "length")


def test_a_chat_is_read_in_the_chat_format(served: Any, model: GPTModel, tokenizer: Tokenizer) -> None:
    messages = [{"role": "developer", "content": "be kind"}, {"role": "user", "content": [{"type": "text", "text": "a<|user|>"}]}]
    ids = render_chat(tokenizer, [Message("system", "be kind"), Message("user", "a<|user|>")], add_generation_prompt=True).ids
    greedy = [token for (token,) in generate_ids(model, [ids], 9, use_cache=False)]
    assert not set(greedy) & set(tokenizer.special_tokens.values()), "the claim needs an answer without an end"
    with served.openai() as client:
        answer = client.chat.completions.create(model="tiny", messages=messages, max_completion_tokens=9, temperature=0)
    assert answer.choices[0].message.content == tokenizer.decode(greedy)
    assert answer.usage.prompt_tokens == len(ids)
    ChatCompletion.model_validate(answer.to_dict(), strict=True)


def rows_of(told: Any, is_chat: bool) -> list[Any]:
    """(token, its place, log-probability) of each token. Rounding may differ where a prefix was read before: by some 1e-6."""
    if is_chat:
        return [(token.token, token.bytes, pytest.approx(token.logprob, abs=1e-4)) for token in told.content]
    return [
        (token, offset, None if value is None else pytest.approx(value, abs=1e-4))
        for token, offset, value in zip(told.tokens, told.text_offset, told.token_logprobs, strict=True)
    ]


def told(chunks: list[Any], choices: int, is_chat: bool) -> list[tuple[str, list[Any], str | None]]:
    """The chunks of a stream put together: (text, log-probabilities, finish reason) of each choice."""
    texts, scores, reasons = [""] * choices, [[] for _ in range(choices)], [None] * choices
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        i = choice.index
        assert reasons[i] is None, "nothing comes after the end"
        texts[i] += (choice.delta.content or "") if is_chat else choice.text
        if choice.logprobs is not None:
            scores[i] += [(*row[:2], getattr(row[2], "expected", None)) for row in rows_of(choice.logprobs, is_chat)]
        reasons[i] = choice.finish_reason
    return list(zip(texts, scores, reasons, strict=True))


COMPLETIONS = [
    {"prompt": "abc"},
    {"prompt": "aé", "echo": True, "logprobs": 3},
    {"prompt": ["abc", "b"], "n": 3, "logprobs": 0},
    {"prompt": [[1, 200, 3], [195]], "echo": True},
    {"prompt": [195, 169, 195], "n": 2, "logprobs": 5, "echo": True},
    {"prompt": "abc", "stop": ["e", "�"], "n": 4, "logprobs": 1},
    {"prompt": "", "logit_bias": {"65": 100}, "stop": "AAAAA"},
    {"prompt": "abc", "max_tokens": 0, "echo": True, "logprobs": 2},
    {"prompt": "abc", "extra_body": {"top_k": 3, "min_p": 0.1, "repetition_penalty": 1.3}, "top_p": 0.9},
]


@pytest.mark.parametrize("settings", COMPLETIONS, ids=str)
def test_a_stream_of_completions_equals_the_whole(served: Any, settings: dict[str, Any]) -> None:
    settings = {"model": "tiny", **SAMPLED, **settings}
    with served.openai() as client:
        whole = client.completions.create(**settings)
        *chunks, last = client.completions.create(**settings, stream=True, stream_options={"include_usage": True})
    if not (settings.get("echo") and "logprobs" in settings):  # the first token has none: OpenAI tells null, which its own type forbids
        Completion.model_validate(whole.to_dict(), strict=True)
    assert told(chunks, len(whole.choices), False) == [
        (c.text, rows_of(c.logprobs, False) if c.logprobs else [], c.finish_reason) for c in whole.choices
    ]
    assert (last.choices, last.usage) == ([], whole.usage)
    assert all(chunk.usage is None and chunk.id == last.id and chunk.object == "text_completion" for chunk in chunks)


CHATS = [{}, {"n": 3, "logprobs": True, "top_logprobs": 4}, {"stop": "�"}, {"logprobs": True, "temperature": 0}]


@pytest.mark.parametrize("settings", CHATS, ids=str)
def test_a_stream_of_a_chat_equals_the_whole(served: Any, settings: dict[str, Any]) -> None:
    settings = {"model": "tiny", "messages": USER, **SAMPLED, **settings}
    with served.openai() as client:
        whole = client.chat.completions.create(**settings)
        chunks = list(client.chat.completions.create(**settings, stream=True))
    expected = [(c.message.content, rows_of(c.logprobs, True) if c.logprobs else [], c.finish_reason) for c in whole.choices]
    assert told(chunks, len(whole.choices), True) == expected
    ChatCompletion.model_validate(whole.to_dict(), strict=True)
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk.to_dict(), strict=True)
    assert [chunk.choices[0].delta.role for chunk in chunks[: len(whole.choices)]] == ["assistant"] * len(whole.choices)
    if "stop" not in settings:
        assert len(chunks) > len(whole.choices) + 3, "it came in pieces"


def test_choices_of_a_seed_are_those_of_the_next_seeds(served: Any) -> None:
    """Choice i of seed s is choice 0 of seed s + i, for every prompt of a batch; and sampling makes them differ."""
    body = {"max_tokens": 12, "temperature": 1.5}
    texts = [choice["text"] for choice in served.complete(["abc", "xyz"], n=3, seed=7, **body)["choices"]]
    assert texts == [served.complete(prompt, seed=7 + i, **body)["choices"][0]["text"] for prompt in ("abc", "xyz") for i in range(3)]
    assert len(set(texts)) == 6


def own_log_probabilities(model: GPTModel, ids: list[int]) -> torch.Tensor:
    """(T, V): row t is what the model says of the token after ids[t]."""
    with torch.inference_mode():
        hidden = model.hidden_states(torch.tensor([ids]), None)[0]
        return torch.nn.functional.linear(hidden, model.head_weight).float().log_softmax(-1)


def test_log_probabilities_are_the_models_own(served: Any, model: GPTModel) -> None:
    """Whatever the temperature, a penalty or a bias: those of the prompt (echo) and of new tokens, with their rivals."""
    prompt = [97, 98, 99]
    answer = served.complete(
        prompt, max_tokens=8, temperature=1.7, seed=3, echo=True, logprobs=4, repetition_penalty=1.5, logit_bias={"70": 5}, top_k=40
    )
    told = answer["choices"][0]["logprobs"]
    raw = [name.encode() if not name.startswith("bytes:") else bytes.fromhex(name[6:].replace("\\x", "")) for name in told["tokens"]]
    ids = [byte for piece in raw for byte in piece]
    assert ids[:3] == prompt and len(ids) == 11
    table = own_log_probabilities(model, ids)
    assert told["token_logprobs"][0] is None and told["top_logprobs"][0] is None
    expected = [float(table[t, token]) for t, token in enumerate(ids[1:])]
    assert told["token_logprobs"][1:] == pytest.approx(expected, abs=1e-4)
    for t, row in enumerate(told["top_logprobs"][1:]):
        best = table[t].topk(4).values.tolist()
        assert sorted(row.values(), reverse=True)[:4] == pytest.approx(best, abs=1e-4)
        assert row[told["tokens"][t + 1]] == told["token_logprobs"][t + 1] and len(row) in (4, 5)


def test_offsets_point_at_the_tokens(served: Any) -> None:
    answer = served.complete("aéz", max_tokens=0, echo=True, logprobs=1)
    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("aéz", "length")
    assert choice["logprobs"]["tokens"] == ["a", "bytes:\\xc3", "bytes:\\xa9", "z"]
    assert choice["logprobs"]["text_offset"] == [0, 1, 1, 2]
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 0, "total_tokens": 4}


def test_bytes_of_a_chat_are_those_of_its_text(served: Any) -> None:
    with served.openai() as client:
        (choice,) = client.chat.completions.create(model="tiny", messages=USER, logprobs=True, top_logprobs=2, **SAMPLED).choices
    raw = bytes(byte for token in choice.logprobs.content for byte in token.bytes)
    assert raw.decode(errors="replace") == choice.message.content
    assert all(len(token.top_logprobs) == 2 for token in choice.logprobs.content)


def test_a_stop_string_is_not_in_the_text_and_frees_the_slot(served: Any) -> None:
    """It is cut where it begins, across tokens; its tokens are counted, what the engine may have written behind it is not."""
    letters = {str(token): -100 for token in range(128, 259)}  # each token left is one character
    settings = {"max_tokens": 60, "temperature": 1.2, "seed": 11, "logit_bias": letters}
    free = served.complete("abc", **settings)["choices"][0]["text"]
    stop = free[10:13]
    answer = served.complete("abc", stop=["never seen", stop], logprobs=0, **settings)
    (choice,) = answer["choices"]
    where = free.index(stop)
    assert (choice["text"], choice["finish_reason"]) == (free[:where], "stop")
    assert choice["logprobs"]["text_offset"] == list(range(where))
    assert answer["usage"]["completion_tokens"] == where + 3
    served.wait(lambda: served.engine.is_idle)


def test_the_end_token_ends_it(served: Any, tokenizer: Tokenizer) -> None:
    answer = served.complete("abc", logit_bias={str(tokenizer.end_of_text_id): 100}, max_tokens=9)
    assert answer["choices"][0]["text"] == "" and answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 0


@pytest.mark.parametrize("mark", ["<|user|>", "<|assistant|>", "<|endoftext|>"])
def test_a_mark_ends_an_answer(served: Any, tokenizer: Tokenizer, mark: str) -> None:
    with served.openai() as client:
        bias = {str(tokenizer.special_tokens[mark]): 100}
        answer = client.chat.completions.create(model="tiny", messages=USER, logit_bias=bias, temperature=0)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("", "stop")


def test_a_chat_goes_on_to_the_end_of_the_context(served: Any, tokenizer: Tokenizer) -> None:
    forbidden = {str(token): -100 for token in tokenizer.special_tokens.values()}
    with served.openai() as client:
        answer = client.chat.completions.create(model="tiny", messages=USER, logit_bias=forbidden, temperature=0)
    assert answer.usage.total_tokens == 96 and answer.choices[0].finish_reason == "length"


def test_an_answer_can_be_sent_back_as_it_came(served: Any) -> None:
    with served.openai() as client:
        first = client.chat.completions.create(model="tiny", messages=USER, max_tokens=5)
        messages = [*USER, first.choices[0].message, {"role": "user", "content": "and?"}]
        assert client.chat.completions.create(model="tiny", messages=messages, max_tokens=5).choices[0].message.role == "assistant"


def test_models_are_listed(served: Any) -> None:
    with served.openai() as client:
        assert [model.id for model in client.models.list()] == ["tiny"]
        assert client.models.retrieve("tiny").id == "tiny"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("other/model")


def test_errors_reach_the_client_as_its_own(served: Any) -> None:
    with served.openai() as client:
        with pytest.raises(openai.NotFoundError) as missing:
            client.completions.create(model="gpt-5", prompt="a")
        assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.BadRequestError) as wrong:
            client.completions.create(model="tiny", prompt="a", best_of=2)
        assert wrong.value.param == "best_of"
        with pytest.raises(openai.BadRequestError) as wrong:
            client.chat.completions.create(model="tiny", messages=USER, tools=[{"type": "function", "function": {"name": "f"}}])
        assert wrong.value.param == "tools"


def test_tokens_and_text(served: Any, tokenizer: Tokenizer) -> None:
    assert served.post("/tokenize", {"prompt": "é<|user|>"}).json() == {
        "count": 10,
        "max_model_len": 96,
        "tokens": list("é<|user|>".encode()),
    }
    chat = served.post("/tokenize", {"messages": USER}).json()["tokens"]
    assert chat == render_chat(tokenizer, [Message("user", "héllo")], add_generation_prompt=True).ids
    assert served.post("/detokenize", {"tokens": chat}).json() == {"prompt": "<|user|>héllo<|assistant|>"}
    refused = served.post("/detokenize", {"tokens": [1, 259]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tokens")


def test_the_sampling_of_a_request_is_its_own(served: Any, model: GPTModel, tokenizer: Tokenizer) -> None:
    """Top-k 1 at a high temperature is greedy, beside others that are not."""
    greedy = served.complete("abc", max_tokens=20)["choices"][0]["text"]
    assert served.complete("abc", max_tokens=20, temperature=2, top_k=1)["choices"][0]["text"] == greedy
    assert served.complete("abc", max_tokens=20, temperature=2, seed=1)["choices"][0]["text"] != greedy
    sampling = Sampling(temperature=0, repetition_penalty=2)
    ids = [token for (token,) in generate_ids(model, [[97, 98, 99]], 20, sampling=sampling, stop_id=tokenizer.end_of_text_id)]
    penalised = served.complete("abc", max_tokens=20, repetition_penalty=2)["choices"][0]["text"]
    assert penalised == tokenizer.decode([97, 98, 99, *ids])[3:] != greedy
