"""What the model would have said: input, target and predicted token side by side."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gpt_kit.data import Batch
from gpt_kit.evaluation.loss import evaluation_mode
from gpt_kit.model import GPTModel
from gpt_kit.tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class Prediction:
    """One position: the token read, the one that follows, the model's first choice, and the target's probability."""

    input: str
    target: str
    predicted: str
    probability: float

    @property
    def correct(self) -> bool:
        """Whether the first choice is the target."""
        return self.target == self.predicted


def predict_batch(model: GPTModel, batch: Batch, tokenizer: Tokenizer, device: torch.device, rows: int = 1) -> list[Prediction]:
    """The predictions along the first `rows` rows of a batch."""
    first = batch.split(rows)[0].to(device)
    inputs, targets = first.inputs, first.targets
    with evaluation_mode(model):
        probabilities = model(inputs, document_ids=first.document_ids).float().softmax(dim=-1)  # (rows, T, V)
    chosen = probabilities.argmax(dim=-1)
    of_target = probabilities.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return [
        Prediction(tokenizer.decode([i]), tokenizer.decode([t]), tokenizer.decode([p]), probability)
        for i, t, p, probability in zip(
            inputs.flatten().tolist(),
            targets.flatten().tolist(),
            chosen.flatten().tolist(),
            of_target.flatten().tolist(),
            strict=True,
        )
        if t >= 0
    ]


def predictions_as_markdown(predictions: list[Prediction]) -> str:
    """A Markdown table; white space is made visible."""
    lines = ["| input | target | predicted | p(target) | |", "|---|---|---|---|---|"]
    for p in predictions:
        cells = " | ".join(f"`{_visible(token)}`" for token in (p.input, p.target, p.predicted))
        lines.append(f"| {cells} | {p.probability:.3f} | {'✓' if p.correct else ''} |")
    return "\n".join(lines)


def _visible(token: str) -> str:
    return token.replace("\n", "⏎").replace(" ", "␣").replace("`", "ˋ").replace("|", "¦") or "∅"
