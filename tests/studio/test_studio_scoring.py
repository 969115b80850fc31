"""Probabilities and rivals against the model's logits; pieces of text against the text."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_kit.errors import InputError
from gpt_kit.studio import scoring
from gpt_kit.studio.cutting import pieces_of
from gpt_kit.studio.scoring import bits, score_tokens
from gpt_kit.tokenizers import load_tokenizer

BYTES = load_tokenizer("byte")
GPT2 = load_tokenizer("gpt2")


def test_probabilities_and_rivals_are_the_models(byte_model, monkeypatch):
    """Also where the logits are taken in several blocks of rows."""
    monkeypatch.setattr(scoring, "ROWS", 4)
    model, ids = byte_model(BYTES.vocab_size), BYTES.encode("every token")
    scored = score_tokens(model, BYTES, ids, num_rivals=3)
    expected = model(torch.tensor([ids]))[0].softmax(dim=-1)
    assert scored[0].probability is None and scored[0].rivals == ()
    for position, token in enumerate(scored[1:], start=1):
        best, which = expected[position - 1].topk(3)
        assert token.probability == pytest.approx(expected[position - 1, ids[position]].item(), rel=1e-5)
        assert [rival.token for rival in token.rivals] == which.tolist()
        assert [rival.probability for rival in token.rivals] == pytest.approx(best.tolist(), rel=1e-5)
        assert token.text == "every token"[position]


def test_bits_are_the_loss(byte_model):
    model, ids = byte_model(BYTES.vocab_size), BYTES.encode("in all")
    nats = model.loss_sum(torch.tensor([ids[:-1]]), torch.tensor([ids[1:]])).item()
    assert bits(score_tokens(model, BYTES, ids)) == pytest.approx(nats / math.log(2), rel=1e-5)


@pytest.mark.parametrize("length", [0, 49])
def test_what_does_not_fit_the_context_is_refused(byte_model, length):
    with pytest.raises(InputError, match="from 1 to 48"):
        score_tokens(byte_model(BYTES.vocab_size), BYTES, [1] * length)


@given(st.text(max_size=40))
@settings(max_examples=60, deadline=None)
def test_pieces_put_together_are_the_text(text):
    for tokenizer in (BYTES, GPT2):
        ids = tokenizer.encode(text)
        pieces = pieces_of(tokenizer, ids)
        assert len(pieces) == len(ids)
        assert "".join(pieces) == tokenizer.decode(ids)


def test_a_character_comes_with_its_last_token():
    assert pieces_of(BYTES, BYTES.encode("aé€")) == ["a", "", "é", "", "", "€"]


def test_half_a_character_at_the_end_and_bytes_that_are_none():
    assert pieces_of(BYTES, BYTES.encode("a€")[:-1]) == ["a", "", "\ufffd"]
    assert "".join(pieces_of(BYTES, [0xFF] * 6 + [ord("b")])) == BYTES.decode([0xFF] * 6 + [ord("b")])
