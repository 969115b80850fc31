"""The generator: prompts as ids -> further ids, one step at a time. Streams of text stand on it (streaming.py).

Prompts of unequal length are padded on the left. With the KV cache each new token costs one position; without it (`use_cache=False`)
the whole text is read again, which is the plain loop that the cache is tested against. A text that outgrows the context is
continued from its last `max_position_embeddings` tokens; every position then changes at each step, so the cache no longer helps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gpt_kit.errors import InputError
from gpt_kit.generation.sampling import Sampling, check_seed
from gpt_kit.model import GPTModel, KVCache
from gpt_kit.tokenizers import as_tokenizer

GREEDY = Sampling(temperature=0)


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

    `context` limits how far back the model looks, in tokens; None means as far as it can. `seed` is from 0 to 2**63 - 1.
    Raises: InputError for an empty prompt, ids outside the vocabulary, a context that the model does not have, or such a seed.
    """
    check_seed(seed)
    if max_new_tokens < 0:
        raise InputError(f"max_new_tokens must be 0 or more; got {max_new_tokens}")
    longest = model.config.max_position_embeddings
    context = longest if context is None else context
    if not 1 <= context <= longest:
        raise InputError(f"a context of {context} tokens was asked for; this model's reaches from 1 to {longest}")
    tokens, mask = _pad_left(prompts, model)
    generator = None if seed is None else torch.Generator(model.device).manual_seed(seed)
    finished = [False] * len(prompts)
    cache = (
        KVCache(model.config, len(prompts), context, device=model.device, dtype=model.token_embedding.weight.dtype) if use_cache else None
    )
    padding = not bool(mask.all())
    was_training = model.training
    model.eval()
    try:
        for _ in range(max_new_tokens):
            if tokens.shape[1] > context:
                cache = None
            start = cache.length if cache is not None else max(0, tokens.shape[1] - context)
            with torch.inference_mode():
                logits = _last_logits(model, tokens[:, start:], mask[:, start:] if padding else None, cache)
                chosen = sampling.choose(logits, tokens, mask, generator)
            step: list[int | None] = []
            for row, token in enumerate(chosen.tolist()):
                finished[row] = finished[row] or token == stop_id
                step.append(None if finished[row] else token)
            if all(finished):
                return
            yield step
            tokens = torch.cat((tokens, chosen[:, None]), dim=1)
            mask = torch.cat((mask, torch.ones_like(chosen[:, None], dtype=torch.bool)), dim=1)
    finally:
        model.train(was_training)


def _last_logits(model: GPTModel, tokens: Tensor, mask: Tensor | None, cache: KVCache | None) -> Tensor:
    hidden = model.hidden_states(tokens, mask, cache=cache)[:, -1]  # the head only where it is needed
    return torch.nn.functional.linear(hidden, model.head_weight)


def _pad_left(prompts: Sequence[Sequence[int]], model: GPTModel) -> tuple[Tensor, Tensor]:
    """Ids (B, S) and mask (B, S), False at padding."""
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise InputError("a prompt has no tokens, so there is nothing to go on from. Give it at least one character")
    longest = max(len(prompt) for prompt in prompts)
    tokens = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros(len(prompts), longest, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        tokens[row, longest - len(prompt) :] = torch.as_tensor(prompt)
        mask[row, longest - len(prompt) :] = True
    if tokens.min() < 0 or tokens.max() >= model.config.vocab_size:
        raise InputError(
            f"a prompt holds ids from {int(tokens.min())} to {int(tokens.max())}, but this model's vocabulary has "
            f"{model.config.vocab_size} entries. Was the prompt made with another tokenizer?"
        )
    return tokens.to(model.device), mask.to(model.device)


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
