"""The engine: many requests at once, each of which joins and leaves at any step.

    submit(Request) -> number        step() -> what every running request has now: a token each
                                     (prompts of those that join are read in it)

Each request has a slot, in which keys and values of its text stay. A slot that is free keeps its text until it is needed: a request
that begins like one of them goes on from there. There are no threads, no text and no clock here: the owner calls `step`.

What is written does not depend on who else is there. Products of other shapes round otherwise, and where two tokens are nearly alike this
could decide; then, and only then, the model reads that text once more, alone and without a cache, as the plain loop does, and that
decides. So in float32 the ids are those of the plain loop. (bf16 rounds more coarsely than any such rule could mend. int8 does too, but
its kernel computes each text by itself, in one order.)
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gpt_kit.errors import InputError
from gpt_kit.generation.decoder import Decoder, float32_kernel, plain_linear
from gpt_kit.generation.int8_decoder import Int8Decoder, int8_kernel
from gpt_kit.generation.native_pass import Part
from gpt_kit.generation.quantize import check_int8, int8_linear
from gpt_kit.generation.request import Event, Request, TokenScore
from gpt_kit.generation.sampling import Noise, Sampling
from gpt_kit.model import GPTModel

logger = logging.getLogger(__name__)
TOO_CLOSE = 1e-5  # of the largest logit. Other shapes of float32 products move logits by some 1e-6 of it
ROWS_PER_BLOCK = 256  # of a prompt's logits
PROMPT_TOKENS = 1024  # are read in one step; who comes behind them joins in the next, so that those who write need not wait for long
WORTH_WAITING = 16  # tokens that can be copied one step later


@dataclass(slots=True, eq=False)
class _Running:
    """A request that has a slot, or waits for one."""

    number: int
    request: Request
    noise: Noise
    ids: list[int]
    """The text so far, prompt included."""
    slot: int = -1


class Engine:
    """A model that writes several texts at once, in the number format of its weights (or int8): autocast does not reach it."""

    def __init__(
        self,
        model: GPTModel,
        *,
        slots: int = 8,
        context: int | None = None,
        capacity: int | None = None,
        int8: bool = False,
    ) -> None:
        """`context`: how far back the model looks; a longer text goes on from its end. `capacity`: tokens that a slot can hold.
        `int8`: linear layers in int8 (quantize.py).

        Raises: InputError for less than one slot, or a context that the model does not have; ConfigError where int8 is not to be had.
        """
        longest = model.config.max_position_embeddings
        self.context = longest if context is None else context
        if slots < 1:
            raise InputError(f"an engine needs one slot or more; got {slots}")
        if not 1 <= self.context <= longest:
            raise InputError(f"a context of {context} tokens was asked for; this model's reaches from 1 to {longest}")
        self.model = model
        self._decoder = _decoder(model, slots, min(self.context, capacity or self.context), int8)
        self._is_exact = not int8 and model.head_weight.dtype is torch.float32
        self._held: list[list[int]] = [[] for _ in range(slots)]  # what each slot's memory is of
        self._running: dict[int, _Running] = {}  # by slot
        self._waiting: deque[_Running] = deque()
        self._submitted = 0

    @property
    def is_idle(self) -> bool:
        """Nothing runs or waits."""
        return not self._running and not self._waiting

    @property
    def num_running(self) -> int:
        """Requests that have a slot."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Requests that wait for one."""
        return len(self._waiting)

    def check(self, request: Request) -> None:
        """Raises: InputError for a prompt without ids or with ids outside the vocabulary, ConfigError for a seed out of range."""
        vocabulary = self.model.config.vocab_size
        if not len(request.prompt):
            raise InputError("a prompt has no tokens, so there is nothing to go on from. Give it at least one character")
        if min(request.prompt) < 0 or max(request.prompt) >= vocabulary:
            raise InputError(
                f"a prompt holds ids from {min(request.prompt)} to {max(request.prompt)}, but this model's vocabulary has {vocabulary} "
                "entries. Was the prompt made with another tokenizer?"
            )
        if request.max_new_tokens < 0:
            raise InputError(f"max_new_tokens must be 0 or more; got {request.max_new_tokens}")
        if min(len(request.prompt), self.context) + request.max_new_tokens > self._decoder.capacity < self.context:
            raise InputError(f"a slot of this engine holds {self._decoder.capacity} tokens: too few for prompt and max_new_tokens together")
        if strange := [token for token in request.bias if not 0 <= token < vocabulary]:
            raise InputError(f"bias is given for id {strange[0]}, but this model's vocabulary has {vocabulary} entries")

    def submit(self, request: Request) -> int:
        """Line up a request; it joins as soon as a slot is free. Its number. Raises: as `check`."""
        self.check(request)
        self._submitted += 1
        self._waiting.append(_Running(self._submitted, request, Noise(request.seed), list(request.prompt)))
        return self._submitted

    def cancel(self, number: int) -> None:
        """Forget a request, wherever it is; its slot is free at once."""
        self._waiting = deque(waiting for waiting in self._waiting if waiting.number != number)
        self._running = {slot: running for slot, running in self._running.items() if running.number != number}

    def step(self) -> list[Event]:
        """One token for every request that runs, and the first one for those that join.

        Where memory runs out or the model fails, its error comes through: cancel what ran, or try the same step again.
        """
        with torch.autocast(self.model.device.type, enabled=False):  # packed weights have one format
            return self._step()

    def _step(self) -> list[Event]:
        parts = {running: self._next_part(running) for running in sorted(self._running.values(), key=lambda running: running.slot)}
        lined_up = 0
        while self._waiting and len(self._running) < len(self._held) and lined_up < PROMPT_TOKENS and not self._had_better_wait(parts):
            new = self._waiting.popleft()
            parts[new] = self._place(new)
            lined_up += len(parts[new].ids)
        if not parts:
            return []
        for part in parts.values():
            del self._held[part.slot][part.start :]  # no more is sure to be there, should memory run out now
        hidden = self._decoder.read(list(parts.values()))
        ends = list(accumulate(len(part.ids) for part in parts.values()))
        for part in parts.values():
            self._held[part.slot] += part.ids
        prompt_scores = {
            running.number: self._scores_of_prompt(running, hidden[end - len(part.ids) : end])
            for (running, part), end in zip(parts.items(), ends, strict=True)
            if running.request.score_prompt and len(running.ids) == len(running.request.prompt)
        }
        last = hidden if len(hidden) == len(parts) else hidden[torch.tensor(ends, device=hidden.device) - 1]
        return self._events(list(parts), self._decoder.logits(last), prompt_scores)

    def _next_part(self, running: _Running) -> Part:
        """The last token; or all that the model can see of a text that has grown out of its slot, for every position is another one now."""
        known = len(self._held[running.slot])
        if len(running.ids) <= self._decoder.capacity:
            return Part(running.slot, running.ids[known:], known)  # more than one, if the step before failed
        return Part(running.slot, running.ids[-self.context :], 0)

    def _had_better_wait(self, parts: Iterable[_Running]) -> bool:
        """Does who comes next begin like a text that is being read in this step? In the next one it can copy that."""
        new = self._waiting[0]
        window = new.ids[-self.context :]
        known = max(_shared(window, held) for held in self._held)
        soon = max((_shared(window, other.ids[-self.context :]) for other in parts), default=0)
        return soon >= known + WORTH_WAITING and not new.request.score_prompt

    def _place(self, new: _Running) -> Part:
        """Give it a slot -> what is to be read of its prompt: that which no slot holds."""
        window = new.ids[-self.context :]
        free = [slot for slot in range(len(self._held)) if slot not in self._running]
        shared = [0 if new.request.score_prompt else min(_shared(window, held), len(window) - 1) for held in self._held]
        source = max(range(len(shared)), key=shared.__getitem__)
        known = shared[source]
        goes_on = source in free and (2 * known > len(self._held[source]) or len(free) == 1)
        new.slot = source if goes_on else min(free, key=lambda slot: (len(self._held[slot]), slot))
        if known and new.slot != source:
            self._decoder.copy(source, new.slot, known)
        self._running[new.slot], self._held[new.slot] = new, window[:known]
        return Part(new.slot, window[known:], known)

    def _events(self, rows: Sequence[_Running], logits: Tensor, prompt_scores: Mapping[int, tuple[TokenScore, ...]]) -> list[Event]:
        """(B, V) logits -> the next token of each, and who has ended."""
        events = []
        for row, (running, token) in enumerate(zip(rows, self._choose(rows, logits), strict=True)):
            request, scores = running.request, prompt_scores.get(running.number, ())
            if token in request.stop_ids or not request.max_new_tokens:
                del self._running[running.slot]
                events.append(Event(running.number, None, "length" if not request.max_new_tokens else "stop", prompt_scores=scores))
                continue
            running.ids.append(token)
            end = "length" if len(running.ids) == len(request.prompt) + request.max_new_tokens else None
            if end:
                del self._running[running.slot]
            found = TokenScore(token, None) if request.num_rivals is None else _score(token, logits[row], request.num_rivals)
            events.append(Event(running.number, token, end, found.log_probability, found.rivals, scores))
        return events

    def _choose(self, rows: Sequence[_Running], logits: Tensor) -> list[int]:
        """The next token of each row; rows with the same settings are computed together."""
        chosen = [0] * len(rows)
        groups: dict[Sampling, list[int]] = {}
        for row, running in enumerate(rows):
            groups.setdefault(running.request.sampling, []).append(row)
        for sampling, group in groups.items():
            members = [rows[row] for row in group]
            noise = sampling.noise([running.noise for running in members], logits.shape[-1])
            own = logits if len(groups) == 1 else logits[group]
            scores = sampling.scores(_biased(own, members), [running.ids for running in members], noise)
            tokens = _largest(scores)
            for i in self._too_close(tokens, scores, own, sampling) if self._is_exact else ():
                alone = _biased(plain_logits(self.model, members[i].ids, self.context), members[i : i + 1])
                tokens[i] = int(sampling.scores(alone, [members[i].ids], None if noise is None else noise[i : i + 1]).argmax())
            for row, token in zip(group, tokens, strict=True):
                chosen[row] = token
        return chosen

    def _too_close(self, tokens: Sequence[int], scores: Tensor, logits: Tensor, sampling: Sampling) -> list[int]:
        """The rows in which rounding could decide."""
        leads, sizes = _leads(tokens, scores), _sizes(logits)
        reach = TOO_CLOSE / (sampling.temperature or 1)
        return [row for row, (lead, size) in enumerate(zip(leads, sizes, strict=True)) if lead <= reach * size]

    def _scores_of_prompt(self, new: _Running, hidden: Tensor) -> tuple[TokenScore, ...]:
        """(T, C) states of the prompt -> what the model says of each of its tokens. What was cut off at its beginning has no score."""
        window = self._held[new.slot]
        scores = [TokenScore(token, None) for token in new.ids[: len(new.ids) - len(window) + 1]]
        for start in range(0, len(window) - 1, ROWS_PER_BLOCK):
            logits = self._decoder.logits(hidden[start : min(start + ROWS_PER_BLOCK, len(window) - 1)])
            scores += [_score(window[start + i + 1], row, new.request.num_rivals or 0) for i, row in enumerate(logits)]
        return tuple(scores)


def _decoder(model: GPTModel, slots: int, capacity: int, int8: bool) -> Decoder | Int8Decoder:
    if not int8:
        is_float32 = model.device.type == "cpu" and model.head_weight.dtype is torch.float32
        kernel = float32_kernel() if is_float32 else None
        return Decoder(model, slots, capacity) if kernel is None else Decoder(model, slots, capacity, plain_linear, kernel)
    check_int8(model.device)
    kernel = int8_kernel(model.config.head_width)
    if kernel is None:
        logger.warning("int8 goes without its own kernel, several times slower; `gpt-kit doctor` says what is missing")
        return Decoder(model, slots, capacity, int8_linear)
    return Int8Decoder(model, slots, capacity, kernel)


@torch.inference_mode()
def plain_logits(model: GPTModel, ids: Sequence[int], context: int) -> Tensor:
    """(1, V) logits of the token after `ids`: the model's own forward pass over all that it can see, and nothing saved."""
    was_training = model.training
    model.eval()
    with torch.autocast(model.device.type, enabled=False):
        hidden = model.hidden_states(torch.tensor([list(ids[-context:])], device=model.device))[:, -1]
        logits = F.linear(hidden, model.head_weight).float()
    model.train(was_training)
    return logits


# NumPy's search takes a seventh of the time of torch's for rows on a CPU.


def _largest(scores: Tensor) -> list[int]:
    """(B, V) -> where each row has its largest."""
    if scores.is_cuda:
        return scores.argmax(dim=-1).tolist()
    return scores.cpu().numpy().argmax(axis=-1).tolist()  # type: ignore[no-any-return]


def _leads(tokens: Sequence[int], scores: Tensor) -> list[float]:
    """(B, V) and where each row has its largest -> how far that is ahead of the next."""
    if scores.is_cuda:
        first, second = scores.topk(2).values.unbind(dim=-1)
        return (first - second).tolist()
    leads = []
    for token, row in zip(tokens, scores.cpu().numpy(), strict=True):
        largest = row[token]
        row[token] = -np.inf
        leads.append(float(largest - row.max()))
        row[token] = largest
    return leads


def _sizes(logits: Tensor) -> list[float]:
    """(B, V) -> the largest of each row, whatever its sign."""
    if logits.is_cuda:
        return logits.abs().amax(dim=-1).tolist()
    return [float(max(row.max(), -row.min())) for row in logits.cpu().numpy()]


def _biased(logits: Tensor, rows: Sequence[_Running]) -> Tensor:
    if not any(running.request.bias for running in rows):
        return logits
    logits = logits.clone()
    for row, running in zip(logits, rows, strict=True):
        if bias := running.request.bias:
            row[list(bias)] += torch.tensor(list(bias.values()), device=row.device)
    return logits


def _score(token: int, logits: Tensor, num_rivals: int) -> TokenScore:
    """(V,) logits -> what the model says of `token`."""
    log_probabilities = logits.log_softmax(dim=-1)
    best = log_probabilities.topk(min(num_rivals, len(logits)))
    return TokenScore(token, float(log_probabilities[token]), tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True)))


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids both begin with: by halving, as whole slices are compared fast."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low
