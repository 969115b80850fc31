"""The tokens of one choice -> its text, as it comes: never half a character, nothing of a stop string, log-probabilities beside it.

A stream is the same deltas as a whole answer, so the two cannot differ. A token's log-probability is given with the delta that shows
the first letter of it; what a stop string cuts off has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gpt_kit.errors import TokenizerError
from gpt_kit.generation.request import Event, TokenScore
from gpt_kit.generation.streaming import TextStream
from gpt_kit.tokenizers import Tokenizer

Rivals = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """One token of a text and its log-probability in nats (None: the first of all, which nothing precedes)."""

    token: int
    log_probability: float | None
    rivals: Rivals
    offset: int
    """Where it begins in the choice's text, in characters."""


@dataclass(slots=True)
class Delta:
    """What one event adds to a choice."""

    text: str = ""
    tokens: list[ScoredToken] = field(default_factory=list)
    finish_reason: str | None = None

    def __bool__(self) -> bool:
        return bool(self.text or self.tokens or self.finish_reason)


class ChoiceText:
    """`feed` takes the events of one choice in order. `finish_reason` is set once its text is whole, even if the engine goes on."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], *, stop: Sequence[str] = (), echo: bool = False) -> None:
        """With `echo` the prompt comes first."""
        self.num_tokens = 0
        """New tokens so far, those that a stop string cut off included."""
        self.finish_reason: str | None = None
        self._echo, self._stop = list(prompt) if echo else [], list(stop)
        self._stream = TextStream(tokenizer, [] if echo else prompt, () if echo else stop)
        self._shown = 0  # characters
        self._held: list[ScoredToken] = []  # their text is not shown yet

    def feed(self, event: Event) -> Delta:
        """The text, and the log-probabilities where they were asked for, that this event makes certain."""
        if self.finish_reason is not None:
            return Delta()
        begun = self._shown
        text = self._echoed(event.prompt_scores) if self._echo else ""
        if event.token is not None:
            self.num_tokens += 1
            is_scored = event.log_probability is not None
            text += self._next(event.token, TokenScore(event.token, event.log_probability, event.rivals) if is_scored else None)
        if event.end is not None:
            text += self._stream.finish()
        self._shown = begun + len(text)
        self.finish_reason = "stop" if self._stream.stopped_by is not None else event.end
        return Delta(text, self._certain(), self.finish_reason)

    def _echoed(self, scores: Sequence[TokenScore]) -> str:
        """The prompt, once; stop strings are looked for after it."""
        text = "".join([self._next(token, scores[i] if scores else None) for i, token in enumerate(self._echo)])
        self._echo, self._stream.stop = [], self._stop
        return text

    def _next(self, token: int, score: TokenScore | None) -> str:
        if score is not None:
            self._held.append(ScoredToken(token, score.log_probability, score.rivals, self._shown + self._stream.num_held))
        piece = self._stream.feed(token)
        self._shown += len(piece)
        return piece

    def _certain(self) -> list[ScoredToken]:
        """The held tokens that begin in the text shown so far; at an end that is no stop string, all."""
        is_whole = self.finish_reason is not None and self._stream.stopped_by is None
        tokens = [token for token in self._held if is_whole or token.offset < self._shown]
        self._held = self._held[len(tokens) :]
        return tokens


def spelled(tokenizer: Tokenizer, token: int, mark: str) -> tuple[str, list[int] | None]:
    r"""A token by itself: its text and its bytes. A part of a character is spelled as `mark` and its bytes, as in "bytes:\xe2\x80".

    The bytes are None where a token has none of its own: in GPT-1's vocabulary text depends on the neighbours.
    """
    try:
        raw = tokenizer.token_bytes(token)
        text = tokenizer.decode([token]) if raw is None else raw.decode()
    except UnicodeDecodeError:
        assert raw is not None
        text = mark + "".join(f"\\x{byte:02x}" for byte in raw)
    except TokenizerError:  # the model's vocabulary is larger than the tokenizer's
        return f"token_id:{token}", None
    return text, None if raw is None else list(raw)
