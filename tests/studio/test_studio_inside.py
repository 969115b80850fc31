"""What the studio shows of a model is what the model computes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from gpt_kit.errors import InputError
from gpt_kit.model.attention import written_out_attention
from gpt_kit.model.gpt import rotary_tables
from gpt_kit.model.positions import rotate
from gpt_kit.studio.inside import attention_weights, look_inside

IDS = [7, 60, 2, 2, 31, 44, 5]
SHAPES = {
    "gpt2": {},
    "gpt1": {"norm": "post"},
    "rotary": {"position_embedding": "rotary", "tie_word_embeddings": False},
    "padded": {"position_embedding": "sinusoidal", "scale_embeddings": True, "vocab_multiple": 64, "qkv_bias": False},
}


@pytest.fixture(params=list(SHAPES))
def model(request, tiny_config, random_model):
    return random_model(tiny_config(**SHAPES[request.param]))


def test_the_last_lens_is_the_models_answer(model):
    found = look_inside(model, IDS, num_choices=61)
    expected = model(torch.tensor([IDS]))[0].softmax(dim=-1)  # (T, V)
    last = torch.zeros(len(IDS), 61).scatter(1, found.lens_tokens[-1], found.lens_probabilities[-1])
    assert found.lens_tokens.shape == (3, len(IDS), 61)
    torch.testing.assert_close(last, expected)
    following = expected[torch.arange(len(IDS) - 1), IDS[1:]]
    torch.testing.assert_close(found.lens_following[-1], following)


def test_the_first_lens_is_the_head_on_the_embedding(model):
    found = look_inside(model, IDS, num_choices=1)
    x = model.embed(torch.tensor([IDS]), torch.arange(len(IDS))[None])
    expected = F.linear(model.final_norm(x)[0], model.head_weight).argmax(dim=-1)
    assert found.lens_tokens[0, :, 0].tolist() == expected.tolist()


def test_attention_is_the_written_out_formulas(model):
    """Weights times values give what the written-out attention gives, in each layer; and the layers differ."""
    layer, x = model.blocks[1].attention, torch.randn(1, 7, 24, generator=torch.Generator().manual_seed(0))
    rotary = rotary_tables(torch.arange(7)[None], 8) if model.config.position_embedding == "rotary" else None
    q, k, v = layer.qkv(x).view(1, 7, 3, 3, 8).permute(2, 0, 3, 1, 4)
    if rotary is not None:
        q, k = rotate(q, rotary), rotate(k, rotary)
    torch.testing.assert_close(attention_weights(layer, x, rotary) @ v[0], written_out_attention(q, k, v, None, 0.0)[0])


def test_attention_inside_is_what_the_model_mixes_with(model, monkeypatch):
    """Caught in a forward pass of the model itself."""
    caught = []

    def attend(q, k, v, visible, dropout):
        scores = (q @ k.transpose(-2, -1) / 8**0.5).masked_fill(torch.ones(7, 7, dtype=torch.bool).triu(1), -torch.inf)
        caught.append(scores.softmax(dim=-1)[0])
        return written_out_attention(q, k, v, visible, dropout)

    found = look_inside(model, IDS).attention
    for block in model.blocks:
        monkeypatch.setattr(block.attention, "attend", attend)
    model(torch.tensor([IDS]))
    torch.testing.assert_close(found, torch.stack(caught))
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(2, 3, 7))


def test_norms_are_of_what_is_added(tiny_config, random_model):
    """In a pre-norm model the stream after a layer is the one before it, and both parts; with one token they are vectors to add."""
    model = random_model(tiny_config())
    found = look_inside(model, [7])
    embedded = model.embed(torch.tensor([[7]]), torch.zeros(1, 1, dtype=torch.long))
    block = model.blocks[0]
    gathered = block.attention(block.attention_norm(embedded))
    thought = block.feed_forward(block.feed_forward_norm(embedded + gathered))
    torch.testing.assert_close(found.attention_norms[0, 0], gathered.norm())
    torch.testing.assert_close(found.feed_forward_norms[0, 0], thought.norm())
    torch.testing.assert_close(found.stream_norms[:2, 0], torch.stack([embedded.norm(), (embedded + gathered + thought).norm()]))


def test_more_than_the_context_is_refused(tiny_config, random_model):
    with pytest.raises(InputError, match="12 tokens"):
        look_inside(random_model(tiny_config()), [1] * 12)
