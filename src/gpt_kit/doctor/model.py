"""Is this model sound? What must hold for any weights: no look ahead, padding without a trace, a cache that changes nothing, files that
give back every bit; and for the code: a small model of the same kind learns one batch by heart.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpt_kit.config import ModelConfig, TrainingConfig
from gpt_kit.data import Batch
from gpt_kit.doctor.checks import Check
from gpt_kit.files import MANIFEST, check_manifest
from gpt_kit.generation import Engine, Request
from gpt_kit.model import GPTModel, KVCache
from gpt_kit.runtime import choose_precision
from gpt_kit.training import Optimizers, optimizer_step

CPU = torch.device("cpu")
TOLERANCE = 1e-4  # of the largest logit: float32 sums in another order differ by less
PLACES = 8  # from which on a text is exchanged
ROWS, LONGEST = 2, 48  # of the texts that are read; the context, where that is shorter
WRITTEN = 8  # new tokens of a text
SMALL: dict[str, Any] = {"vocab_size": 61, "max_position_embeddings": 24, "n_embd": 48, "n_head": 4, "n_layer": 2, "n_inner": 0}
NO_DROPOUT: dict[str, Any] = dict.fromkeys(("embedding_dropout", "attention_dropout", "residual_dropout"), 0.0)
FAMILIES: dict[str, ModelConfig] = {
    "GPT-2": ModelConfig(**SMALL),
    "GPT-1": ModelConfig(**SMALL, norm="post"),
    "rotary": ModelConfig(**SMALL, position_embedding="rotary", tie_word_embeddings=False),
}
LEARNED, MOST_STEPS = 0.05, 300  # nats a token is down to when a batch is known by heart, and how soon
CODE = "this is a defect of the program, not of your files: please report it with the output of gpt-kit doctor"
FILES = "the weights are damaged or of another architecture: copy or import them again"


def model_checks(name: str, make: Callable[[], GPTModel]) -> list[Check]:
    """Checks of the model that `make` gives (in eval mode, on the CPU), `name` in front."""
    ready: list[GPTModel] = []

    def with_model(look: Callable[[GPTModel], tuple[bool, str]]) -> tuple[bool, str]:
        if not ready:
            ready.append(make())
        with torch.no_grad():
            return look(ready[0])

    looks = [
        ("all figures finite", _finite, FILES),
        ("no token sees a later one", _causal, CODE),
        ("padding leaves no trace", _padding, CODE),
        ("cache gives the full pass", _cached, CODE),
        ("the engine writes the likeliest", _written, CODE),
        ("saved and loaded, every bit", _saved, f"check the disk with gpt-kit doctor; else {CODE}"),
        ("a small one learns a batch by heart", _learns, CODE),
    ]
    return [Check(f"{name}: {what}", partial(with_model, look), remedy) for what, look, remedy in looks]


def file_checks(name: str, folder: Path) -> list[Check]:
    """Whether the model in `folder` can be read at all."""

    def every_byte() -> tuple[bool, str]:
        if not (folder / MANIFEST).is_file():
            return True, f"{folder} has no {MANIFEST} to compare with"
        check_manifest(folder)
        return True, f"{folder} matches its SHA-256"

    def opens() -> tuple[bool, str]:
        config = GPTModel.from_pretrained(folder).config
        return True, f"n_layer {config.n_layer}, n_embd {config.n_embd}, vocabulary {config.vocab_size:,}"

    return [Check(f"{name}: files as they were written", every_byte, FILES), Check(f"{name}: opens", opens, FILES)]


def random_model(config: ModelConfig) -> GPTModel:
    """A model whose every parameter is random: fresh norms of 1 and biases of 0 would hide mistakes."""
    model, generator = GPTModel(config).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(float("norm" in name and name.endswith("weight")), 0.1, generator=generator)
    return model


def _ids(config: ModelConfig, seed: int = 1) -> Tensor:
    shape = (ROWS, min(config.max_position_embeddings, LONGEST))
    return torch.randint(0, config.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def _compared(expected: Tensor, found: Tensor) -> tuple[bool, str]:
    difference = float((expected - found).abs().max() / expected.abs().max())
    return difference <= TOLERANCE, f"logits differ by {difference:.0e} of the largest"  # NaN is not below either


def _finite(model: GPTModel) -> tuple[bool, str]:
    broken = [name for name, tensor in model.exported_tensors().items() if not tensor.isfinite().all()]
    logits = model(_ids(model.config))
    figure = f"logits from {logits.min():.3g} to {logits.max():.3g}"
    return not broken and bool(logits.isfinite().all()), f"{figure}; not finite: {', '.join(broken)}" if broken else figure


def _causal(model: GPTModel) -> tuple[bool, str]:
    """From some places on the text is exchanged; logits up to there must stay, and the one behind must not."""
    ids, other = _ids(model.config), _ids(model.config, seed=2)
    logits = model(ids)
    before, after = [torch.zeros(())], [torch.tensor(torch.inf)]
    for place in range(1, ids.shape[1], max(1, ids.shape[1] // PLACES)):
        change = (model(torch.cat((ids[:, :place], other[:, place:]), dim=1)) - logits).abs() / logits.abs().max()
        before.append(change[:, :place].max())
        if not torch.equal(ids[:, place], other[:, place]):
            after.append(change[:, place].max())
    earlier, own = torch.stack(before).max(), torch.stack(after).min()  # both are NaN where any is
    return bool(earlier <= TOLERANCE and own > 0), f"earlier logits move by {earlier:.0e} of the largest, the token's own by {own:.0e}"


def _padding(model: GPTModel) -> tuple[bool, str]:
    """A row alone, and the same row with a third of its length in padding on the left, then on the right."""
    ids = _ids(model.config)[:1]
    padding = max(1, ids.shape[1] // 3)
    text = ids[:, padding:]
    if text.shape[1] == 0:
        return True, "a context of one token leaves no room for padding"
    filler, real = torch.zeros_like(ids[:, :padding]), torch.ones_like(text)
    left = model(torch.cat((filler, text), dim=1), torch.cat((filler, real), dim=1))[:, padding:]
    right = model(torch.cat((text, filler), dim=1), torch.cat((real, filler), dim=1))[:, : text.shape[1]]
    return _compared(torch.cat((model(text),) * 2), torch.cat((left, right)))


def _cached(model: GPTModel) -> tuple[bool, str]:
    """Token by token, to the end of the text."""
    ids = _ids(model.config)
    cache = KVCache(model.config, ROWS)
    return _compared(model(ids), torch.cat([model(ids[:, [place]], cache=cache) for place in range(ids.shape[1])], dim=1))


def _written(model: GPTModel) -> tuple[bool, str]:
    """Texts of other lengths at once by the engine, and each by full passes."""
    engine, texts, expected = Engine(model, slots=ROWS), {}, []
    for row, ids in enumerate(_ids(model.config).tolist()):
        text = ids[: max(1, len(ids) - WRITTEN - row)]
        texts[engine.submit(Request(prompt=text, max_new_tokens=WRITTEN, seed=0))] = list[int | None]()
        for _ in range(WRITTEN):
            text = [*text, int(model(torch.tensor([text[-len(ids) :]]))[0, -1].argmax())]
        expected.append(text[-WRITTEN:])
    while not engine.is_idle:
        for event in engine.step():
            texts[event.request].append(event.token)
    wrong = sum(found != text for found, text in zip(texts.values(), expected, strict=True))
    return not wrong, f"{WRITTEN} tokens of {ROWS} texts" + (f", of which {wrong} differ" if wrong else "")


def _saved(model: GPTModel) -> tuple[bool, str]:
    with tempfile.TemporaryDirectory(prefix="gpt-kit-doctor-") as folder:
        model.save_pretrained(Path(folder) / "model")
        again = GPTModel.from_pretrained(Path(folder) / "model").exported_tensors()
    own = model.exported_tensors()
    changed = [name for name in own if name not in again or not torch.equal(own[name], again[name])]
    same = not changed and again.keys() == own.keys()
    return same, f"{sum(tensor.numel() for tensor in own.values()):,} parameters" + (f"; other: {', '.join(changed)}" if changed else "")


@torch.enable_grad()
def _learns(model: GPTModel) -> tuple[bool, str]:
    """A fresh small model of the same kind, four rows, AdamW."""
    config = dataclasses.replace(model.config, **SMALL, **NO_DROPOUT)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        small = GPTModel(config).train()
    training, precision = TrainingConfig(learning_rate=5e-3, weight_decay=0.0), choose_precision("float32", CPU)
    optimizers = Optimizers(small, training, CPU)
    ids = torch.cat((_ids(config), _ids(config, seed=2)))
    loss = float("inf")
    for steps in range(1, MOST_STEPS + 1):
        optimizers.set_learning_rate_share(min(1.0, steps / 20))
        batch = Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
        loss = optimizer_step(small, optimizers, [batch], max_grad_norm=1.0, precision=precision, device=CPU).loss
        if loss < LEARNED:
            break
    return loss < LEARNED, f"loss {loss:.3f} nats a token after {steps} steps"
