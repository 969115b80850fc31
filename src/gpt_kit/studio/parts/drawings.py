"""Attention and the logit lens as elements of the page (heads.js, lens.js)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

import torch

from gpt_kit.studio.cutting import shown
from gpt_kit.studio.inside import Inside
from gpt_kit.studio.parts.component import component
from gpt_kit.tokenizers import Tokenizer


def draw_heads(found: Inside, pieces: Sequence[str], *, key: str) -> None:
    """A map for every head, and the text in the eyes of one. A weight is sent as one byte, so it is right to 1 / 510."""
    num_layers, num_heads = found.attention.shape[:2]
    weights = (found.attention * 255).round().to(torch.uint8).numpy().tobytes()
    layer, head = divmod(int(_far_looking(found.attention)), num_heads)
    data = {
        "tokens": list(pieces),
        "layers": num_layers,
        "heads": num_heads,
        "layer": layer,
        "head": head,
        "weights": base64.b64encode(weights).decode(),
        "version": hashlib.sha256(weights).hexdigest()[:16],
    }
    component("heads")(key=key, data=data)


def draw_lens(found: Inside, pieces: Sequence[str], tokenizer: Tokenizer, *, key: str) -> None:
    """The table of what each layer would have said, and the choices at one position."""
    rows = []
    for layer in range(len(found.lens_tokens)):
        name = f"layer {layer}" if layer else "embedding"
        name += ": the answer" if layer == len(found.lens_tokens) - 1 else ""
        cells = []
        for column in range(len(pieces)):
            following = float(found.lens_following[layer, column]) if column + 1 < len(pieces) else None
            ids, shares = found.lens_tokens[layer, column].tolist(), found.lens_probabilities[layer, column].tolist()
            choices = [(shown(tokenizer, token), share) for token, share in zip(ids, shares, strict=True)]
            right = column + 1 < len(pieces) and choices[0][0] == pieces[column + 1]
            cells.append({"choices": choices, "following": following, "right": right})
        rows.append({"name": name, "cells": cells})
    version = hashlib.sha256(repr((list(pieces), found.lens_tokens.tolist())).encode()).hexdigest()[:16]
    component("lens")(key=key, data={"tokens": list(pieces), "rows": rows, "version": version})


def _far_looking(attention: torch.Tensor) -> torch.Tensor:
    """The head (as layer · H + head) with the most weight on what is neither the first token nor the token itself: the liveliest one."""
    others = attention.tril(-1).clone()
    others[..., 0] = 0
    return others.sum(dim=(2, 3)).flatten().argmax()
