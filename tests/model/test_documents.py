"""Documents packed into one window and kept apart by the document mask compute what each computes alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gpt_kit.config import ModelConfig
from gpt_kit.model import GPTModel

LENGTHS = [4, 1, 6]
VARIANTS = [(positions, norm) for positions in ("learned", "sinusoidal", "rotary") for norm in ("pre", "post")]


@pytest.fixture(params=VARIANTS, ids="-".join)
def model(request: pytest.FixtureRequest, tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> GPTModel:
    positions, norm = request.param
    return random_model(tiny_config(position_embedding=positions, norm=norm))


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(0, 61, (2, sum(LENGTHS)), generator=torch.Generator().manual_seed(2))


def numbered(lengths: list[int]) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))


def test_packed_documents_equal_each_alone(model: GPTModel, ids: Tensor) -> None:
    """The two rows are cut differently, so a mask shared by the batch could not pass."""
    cuts = [LENGTHS, LENGTHS[::-1]]
    document_ids = torch.stack([numbered(lengths) for lengths in cuts])
    with torch.no_grad():
        packed = model(ids, document_ids=document_ids)
        for row, lengths in enumerate(cuts):
            alone = torch.cat([model(document[None])[0] for document in ids[row].split(lengths)])
            torch.testing.assert_close(packed[row], alone, rtol=0, atol=1e-5)


def test_control_without_the_mask_documents_see_each_other(model: GPTModel, ids: Tensor) -> None:
    with torch.no_grad():
        packed = model(ids, document_ids=numbered(LENGTHS).expand(2, -1))
        assert (packed - model(ids))[:, LENGTHS[0] + 1 :].abs().max() > 1e-3
        torch.testing.assert_close(packed[:, : LENGTHS[0]], model(ids)[:, : LENGTHS[0]], rtol=0, atol=1e-5)


def test_loss_over_packed_documents_is_the_sum_of_their_losses(model: GPTModel, ids: Tensor) -> None:
    targets = ids.roll(-1, dims=1)
    document_ids = numbered(LENGTHS).expand(2, -1)
    with torch.no_grad():
        packed = model.loss_sum(ids, targets, document_ids=document_ids)
        parts = zip(ids.split(LENGTHS, dim=1), targets.split(LENGTHS, dim=1), strict=True)
        alone = sum(model.loss_sum(inputs, wanted) for inputs, wanted in parts)
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=0)
