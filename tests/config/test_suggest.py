"""'did you mean …': catches slips of the finger, and says nothing rather than something silly."""

from __future__ import annotations

import dataclasses

import pytest

from gpt_kit.cli import VERBS
from gpt_kit.config import PRESETS, SHORT_NAMES, TrainingConfig, did_you_mean

MODELS = [*SHORT_NAMES, *PRESETS]
SETTINGS = [field.name for field in dataclasses.fields(TrainingConfig)]


@pytest.mark.parametrize(
    ("got", "known", "meant"),
    [
        ("gtp2-small", MODELS, "gpt2-small"),
        ("gpt2small", MODELS, "gpt2-small"),
        ("GPT2-Medium", MODELS, "gpt2-medium"),
        ("GPT2", MODELS, "gpt2"),
        ("trian", VERBS, "train"),
        ("ifno", VERBS, "info"),
        ("cahr", ["gpt2", "bpe", "char", "byte"], "char"),
        ("bpt", ["gpt2", "bpe", "char", "byte"], "bpe"),
        ("weigth_decay", SETTINGS, "weight_decay"),
        ("batch", SETTINGS, "batch_size"),
    ],
)
def test_a_slip_is_recognised(got: str, known: list[str], meant: str) -> None:
    assert did_you_mean(got, known) == f" (did you mean {meant!r}?)"


@pytest.mark.parametrize("got", ["foo", "bar", "x", "", "llama", "yaml", "sample", "resume", "n_layer", "epochs"])
@pytest.mark.parametrize("known", [MODELS, VERBS, SETTINGS], ids=["models", "verbs", "settings"])
def test_a_word_of_its_own_gets_no_suggestion(got: str, known: list[str]) -> None:
    assert did_you_mean(got, known) == ""
