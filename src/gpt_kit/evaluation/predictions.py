"""What the model would have said: input, target and predicted token side by side."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

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


def predict_batch(
    model: GPTModel, batch: Batch, tokenizer: Tokenizer, device: torch.device, rows: int = 1, positions: int | None = None
) -> list[Prediction]:
    """The predictions at the scored targets of a batch's first `rows` rows, up to the first `positions` of each (None: all).

    Nothing looks ahead, so the rest is cut off before the model reads it, and the head works where a target is scored only.
    """
    parts = (batch.inputs, batch.targets, batch.document_ids)
    first = Batch(*(None if part is None else part[:rows, :positions] for part in parts)).to(device)  # type: ignore[arg-type]
    scored = first.targets >= 0
    inputs, targets = first.inputs[scored], first.targets[scored]  # (N,) each
    with evaluation_mode(model):
        hidden = model.hidden_states(first.inputs, document_ids=first.document_ids)[scored]  # (N, C)
        logits = F.linear(hidden, model.head_weight).float()  # (N, V)
    of_target = (logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(dim=1)).exp()
    columns = (inputs.tolist(), targets.tolist(), logits.argmax(dim=1).tolist(), of_target.tolist())
    return [
        Prediction(tokenizer.decode([i]), tokenizer.decode([t]), tokenizer.decode([p]), probability)
        for i, t, p, probability in zip(*columns, strict=True)
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
