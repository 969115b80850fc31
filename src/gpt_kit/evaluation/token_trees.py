"""Texts that begin alike, merged into trees: what they share is read once.

A request asks for the probability of a continuation after a context. The four answers of a question share its context, questions
share their examples; sorted by their ids, requests that share most stand side by side. A tree holds each shared token once:

    Q u e s t i o n ── A n s ── one          tokens  Q u e s t i o n A n s one two it
                    │        └─ two          ends    of each token: where those that continue it end
                    └─ it

The tokens stand in preorder, so a token s is on the branch of t exactly if s <= t < ends[s]: attention needs no more to keep the
branches apart (model/mask.py). Each branch is computed as if it stood alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from gpt_kit.errors import InputError

LONGEST_TREE = 1024  # tokens, where a single request is not longer: attention looks at all pairs of a row, and skips none that are masked
WORTH_SHARING = 2  # a request joins a tree if it brings at most this many new tokens for each one that it finds there


@dataclass(frozen=True, slots=True)
class Request:
    """Score `continuation` after `context`: token ids, at least one of each."""

    context: Sequence[int]
    continuation: Sequence[int]

    def fitted(self, context: int) -> Request:
        """The same with what the model can read: at most `context` tokens, counted from the last but one backwards.

        Raises: InputError where not even one token would be left before the continuation.
        """
        if not self.context or not self.continuation or len(self.continuation) > context:
            raise InputError(
                f"a request of {len(self.context)} tokens and {len(self.continuation)} to be scored after them; there must be one of each "
                f"at least, and this model's context holds {context} to be scored. Make the text shorter"
            )
        excess = len(self.context) + len(self.continuation) - 1 - context
        return Request(self.context[excess:], self.continuation) if excess > 0 else self


@dataclass(slots=True)
class TokenTree:
    """Requests that begin alike."""

    tokens: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    """Of each token: the place behind the last one that continues it."""
    scored: dict[int, list[int]] = field(default_factory=dict)
    """Number of a request -> the places from which its continuation's tokens are predicted."""
    _path: list[int] = field(default_factory=list)  # places of the last request's tokens

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def is_one_branch(self) -> bool:
        """No token has two that continue it: plain causal attention does."""
        return len(self._path) == len(self.tokens)

    def shared(self, ids: list[int]) -> int:
        """How many tokens at the beginning of `ids` the last request has too."""
        last = (self.tokens[place] for place in self._path)
        return next((i for i, (a, b) in enumerate(zip(ids, last, strict=False)) if a != b), min(len(ids), len(self._path)))

    def add(self, number: int, ids: list[int], num_scored: int, shared: int) -> None:
        """Grow a branch for `ids`, of whose places the last `num_scored` predict."""
        self._end_branch(shared)
        self._path = self._path[:shared] + list(range(len(self.tokens), len(self.tokens) + len(ids) - shared))
        self.tokens += ids[shared:]
        self.ends += [0] * (len(ids) - shared)  # until it is known
        self.scored[number] = self._path[len(ids) - num_scored :]

    def close(self) -> None:
        """No more requests."""
        self._end_branch(0)

    def _end_branch(self, shared: int) -> None:
        for place in self._path[shared:]:
            self.ends[place] = len(self.tokens)


def grow_trees(requests: Sequence[Request]) -> Iterator[TokenTree]:
    """The requests in as few tokens as is worth it, each numbered by its place in `requests`. They must be `fitted`."""
    read = [[*request.context, *request.continuation][:-1] for request in requests]  # the last token is predicted, never read
    tree = TokenTree()
    for number in sorted(range(len(requests)), key=read.__getitem__):
        ids = read[number]
        shared = tree.shared(ids)
        new = len(ids) - shared
        if tree.tokens and (new > WORTH_SHARING * shared or len(tree.tokens) + new > LONGEST_TREE) and new:
            tree.close()
            yield tree
            tree, shared = TokenTree(), 0
        tree.add(number, ids, len(requests[number].continuation), shared)
    if tree.tokens:
        tree.close()
        yield tree
