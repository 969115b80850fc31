"""The generator: prompts as ids -> further ids, one step at a time. Streams of text stand on it (streaming.py).

The engine does the work. `use_cache=False` is the plain loop that it is tested against: for each new token the whole text is read
again, alone. A text that outgrows the context goes on from its last `max_position_embeddings` tokens in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gpt_kit.errors import InputError
from gpt_kit.generation.engine import Engine, plain_logits
from gpt_kit.generation.request import Request
from gpt_kit.generation.sampling import GREEDY, Noise, Sampling
from gpt_kit.model import GPTModel
from gpt_kit.tokenizers import as_tokenizer


def generate_ids(
    model: GPTModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    sampling: Sampling = GREEDY,
    stop_id: int | None = None,
    seed: int | None = None,
    use_cache: bool = True,
    context: int | None = None,
) -> Iterator[list[int | None]]:
    """Yield, step by step, the next id of every prompt; None for a prompt that has met `stop_id`. Ends when all have.

    `context` limits how far back the model looks, in tokens; None means as far as it can. `seed`, from 0 to 2**63 - 1, is that of
    each prompt, which goes on as it would alone. Raises: InputError for an empty prompt, ids outside the vocabulary, a context that
    the model does not have; ConfigError for another seed.
    """
    longest = max((len(prompt) for prompt in prompts), default=0) + max(max_new_tokens, 0)
    engine = Engine(model, slots=max(1, len(prompts)), context=context, capacity=max(1, longest))
    requests = [
        Request(
            prompt=[int(token) for token in prompt],
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            seed=seed,
            stop_ids=frozenset() if stop_id is None else frozenset([stop_id]),
        )
        for prompt in prompts
    ]
    if not requests:
        raise InputError("there is no prompt, so there is nothing to go on from. Give one at least")
    for request in requests:
        engine.check(request)
    if max_new_tokens:
        yield from _steps(engine, requests) if use_cache else _plain_steps(model, requests, engine.context)


def _steps(engine: Engine, requests: Sequence[Request]) -> Iterator[list[int | None]]:
    row_of = {engine.submit(request): row for row, request in enumerate(requests)}
    while not engine.is_idle:
        step: list[int | None] = [None] * len(requests)
        for event in engine.step():
            step[row_of[event.request]] = event.token
        if step.count(None) < len(step):
            yield step


def _plain_steps(model: GPTModel, requests: Sequence[Request], context: int) -> Iterator[list[int | None]]:
    texts, noises = [list(request.prompt) for request in requests], [Noise(request.seed) for request in requests]
    finished = [False] * len(requests)
    for _ in range(requests[0].max_new_tokens):
        step: list[int | None] = []
        for row, (request, ids, noise) in enumerate(zip(requests, texts, noises, strict=True)):
            if not finished[row]:
                logits = plain_logits(model, ids, context)
                token = int(request.sampling.scores(logits, [ids], request.sampling.noise([noise], logits.shape[-1])).argmax())
                ids.append(token)
                finished[row] = token in request.stop_ids
            step.append(None if finished[row] else ids[-1])
        if all(finished):
            return
        yield step


def write(engine: Engine, request: Request) -> Iterator[int]:
    """The new ids of one request, by an engine that writes for nobody else meanwhile. Closing it gives the request up."""
    number = engine.submit(request)
    try:
        while not engine.is_idle:
            for event in engine.step():
                if event.token is not None:
                    yield event.token
    finally:
        engine.cancel(number)


def text_to_token_ids(text: str, tokenizer: object) -> Tensor:
    """One text as a batch of ids (1, T). `tokenizer` is the kit's own or a plain tiktoken.Encoding."""
    return torch.tensor([as_tokenizer(tokenizer).encode(text)], dtype=torch.long)


def token_ids_to_text(token_ids: Tensor, tokenizer: object) -> str:
    """The text of a batch of one, (1, T) or (T,)."""
    return as_tokenizer(tokenizer).decode(token_ids.flatten().tolist())


def generate_text_autoregressive(
    model: GPTModel,
    token_ids: Tensor,
    max_new_tokens: int,
    context_size: int | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    eos_token_id: int | None = None,
    top_p: float = 1.0,
    seed: int | None = None,
) -> Tensor:
    """Continue a batch of ids: (B, T) -> (B, T + new). Rows that meet `eos_token_id` are filled up with it.

    `context_size` limits how far back the model looks. Raises: InputError for ids that are not whole numbers of shape (B, T) in the
    vocabulary, ConfigError for settings out of range.
    """
    if token_ids.ndim != 2 or token_ids.dtype.is_floating_point:
        raise InputError(
            f"token_ids must be whole numbers of shape (B, T); got {token_ids.dtype} of shape {tuple(token_ids.shape)}. "
            "One row alone becomes a batch by token_ids[None]"
        )
    sampling = Sampling(temperature=temperature, top_k=top_k or 0, top_p=top_p)
    prompts = token_ids.tolist()
    steps = generate_ids(model, prompts, max_new_tokens, sampling=sampling, stop_id=eos_token_id, seed=seed, context=context_size)
    new = [[eos_token_id if token is None else token for token in step] for step in steps]
    if not new:
        return token_ids
    return torch.cat((token_ids, torch.tensor(new, device=token_ids.device).T), dim=1)
