"""A sound model passes every check; one that is broken on purpose fails the check that is meant for it, and says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gpt_kit.doctor import FAMILIES, examine, file_checks, model_checks, random_model
from gpt_kit.generation.decoder import Decoder
from gpt_kit.generation.native_pass import Part
from gpt_kit.model import GPTModel, KVCache, written_out_attention
from gpt_kit.training import Optimizers

CONFIG = FAMILIES["GPT-2"]


def failed(model: GPTModel) -> set[str]:
    return {finding.what.removeprefix("it: ") for finding in examine(model_checks("it", lambda: model)) if not finding.ok}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sound_model_of_each_family_passes(family: str) -> None:
    findings = list(examine(model_checks("it", lambda: random_model(FAMILIES[family]))))
    assert [finding.what for finding in findings if not finding.ok] == []
    assert len(findings) == 7 and not any(finding.remedy for finding in findings)


def with_attention(attend: Callable[..., Tensor]) -> GPTModel:
    model = random_model(CONFIG)
    for block in model.blocks:
        block.attention.attend = attend
    return model


def test_attention_that_looks_ahead_is_found() -> None:
    model = with_attention(lambda q, k, v, visible, _: F.scaled_dot_product_attention(q, k, v, attn_mask=visible))
    assert "no token sees a later one" in failed(model)


def test_a_model_that_sees_nothing_is_no_causal_model() -> None:
    """Logits that never move would pass the first half of the check: the token's own place must move."""
    model = random_model(CONFIG)
    model.token_embedding.weight.data.zero_()
    assert "no token sees a later one" in failed(model)


def test_attention_that_sees_padding_is_found_and_only_there() -> None:
    model = with_attention(lambda q, k, v, _, dropout: written_out_attention(q, k, v, None, dropout))
    assert failed(model) == {"padding leaves no trace"}


def test_a_cache_that_loses_a_key_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    append = KVCache.append

    def forgetful(self: KVCache, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = append(self, layer, k, v)
        return torch.cat((keys[:, :, :1] * 0, keys[:, :, 1:]), dim=2), values

    monkeypatch.setattr(KVCache, "append", forgetful)
    assert failed(random_model(CONFIG)) == {"cache gives the full pass"}


def test_an_engine_that_writes_over_a_key_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Decoder.read

    def one_place_back(self: Decoder, parts: list[Part]) -> torch.Tensor:
        return read(self, [part._replace(start=part.start - 1) if part.start else part for part in parts])

    monkeypatch.setattr(Decoder, "read", one_place_back)
    assert failed(random_model(CONFIG)) == {"the engine writes the likeliest"}


def test_one_bit_lost_on_the_way_to_disk_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    load = GPTModel.from_pretrained

    def lossy(folder: Path) -> GPTModel:
        model = load(folder)
        model.final_norm.weight.data.view(torch.int32)[0] ^= 1
        return model

    monkeypatch.setattr(GPTModel, "from_pretrained", lossy)
    assert failed(random_model(CONFIG)) == {"saved and loaded, every bit"}


def test_an_optimizer_that_does_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Optimizers, "step", lambda *_: None)
    assert failed(random_model(CONFIG)) == {"a small one learns a batch by heart"}


def test_a_weight_that_is_no_number_is_named() -> None:
    model = random_model(CONFIG)
    model.blocks[1].attention.projection.weight.data[0, 0] = float("nan")
    finding = next(examine(model_checks("it", lambda: model)))
    assert not finding.ok and "blocks.1.attention.projection.weight" in finding.figure and finding.remedy


def test_a_flipped_byte_and_a_missing_file_are_found(tmp_path: Path) -> None:
    random_model(CONFIG).save_pretrained(tmp_path / "model")
    assert all(finding.ok for finding in examine(file_checks("it", tmp_path / "model")))
    weights = tmp_path / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 8
    weights.write_bytes(content)
    bytes_checked, _ = examine(file_checks("it", tmp_path / "model"))
    assert not bytes_checked.ok and "model.safetensors" in bytes_checked.figure
    weights.unlink()
    assert not any(finding.ok for finding in examine(file_checks("it", tmp_path / "model")))


def test_the_random_state_of_the_caller_is_left_alone() -> None:
    torch.manual_seed(5)
    model = random_model(CONFIG)
    before = torch.get_rng_state()
    failed(model)
    assert torch.equal(before, torch.get_rng_state())
