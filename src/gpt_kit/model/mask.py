"""Who may look at whom.

A query sees keys at or before itself, in its own document, that are not padding. The mask is over keys, never over queries;
and a query always sees itself, so that a row of nothing but padding stays finite. No real token sees padding by that rule.
"""

from __future__ import annotations

import torch
from torch import Tensor


def visible_keys(num_queries: int, key_mask: Tensor, document_ids: Tensor | None = None) -> Tensor:
    """(B, 1, T, S) True where query t, the last T of S positions, may look at key s.

    `key_mask` (B, S) is False at padding; `document_ids` (B, S) keeps packed documents apart.
    """
    num_keys = key_mask.shape[1]
    keys = torch.arange(num_keys, device=key_mask.device)
    queries = keys[num_keys - num_queries :, None]
    visible = (keys <= queries) & key_mask[:, None, :]
    if document_ids is not None:
        visible &= document_ids[:, num_keys - num_queries :, None] == document_ids[:, None, :]
    return (visible | (keys == queries))[:, None]


def visible_in_trees(ends: Tensor) -> Tensor:
    """(B, 1, T, T) True where token t may look at token s of its own branch: itself and what it continues.

    The tokens of a tree stand in preorder, each before all that continue it, and `ends` (B, T) says where those of each token end. So
    s lies on the branch of t exactly if s <= t < ends[s].
    """
    tokens = torch.arange(ends.shape[1], device=ends.device)
    return ((tokens <= tokens[:, None]) & (tokens[:, None] < ends[:, None, :]))[:, None]


def positions_from_mask(key_mask: Tensor) -> Tensor:
    """(B, S) mask -> (B, S) positions that count real tokens only, so that left padding moves nothing."""
    return (key_mask.long().cumsum(dim=1) - 1).clamp(min=0)


def positions_in_documents(document_ids: Tensor) -> Tensor:
    """(B, T) document numbers -> (B, T) positions that start at 0 in each document."""
    index = torch.arange(document_ids.shape[1], device=document_ids.device).expand_as(document_ids)
    starts = torch.ones_like(document_ids, dtype=torch.bool)
    starts[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
    return index - torch.where(starts, index, 0).cummax(dim=1).values
