"""How a token knows where it stands, for models without a learned table. Computed from positions; nothing is stored."""

from __future__ import annotations

import torch
from torch import Tensor

BASE = 10_000.0  # wavelengths run from 2π to BASE · 2π (Vaswani et al. 2017, section 3.5)


def _angles(positions: Tensor, width: int) -> Tensor:
    """(…) whole numbers -> (…, width / 2) angles in radians."""
    frequencies = BASE ** (-torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width)
    return positions[..., None].float() * frequencies


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """(…) positions -> (…, width): sine in even channels, cosine in odd ones."""
    angles = _angles(positions, width)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


def rotary_tables(positions: Tensor, head_width: int) -> tuple[Tensor, Tensor]:
    """(B or 1, T) positions -> cosines and sines (B or 1, 1, T, D / 2), for `rotate`."""
    angles = _angles(positions, head_width)[:, None]
    return angles.cos(), angles.sin()


def rotate(x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Turn channel pairs (i, i + D/2) of (B, H, T, D) by their position's angle (Su et al. 2021, section 3.4)."""
    cos, sin = (table.to(x.dtype) for table in tables)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)
