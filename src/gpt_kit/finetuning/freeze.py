"""Which weights a run trains: freezing by the names of parameters, and what that saves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gpt_kit.config import did_you_mean
from gpt_kit.errors import ConfigError
from gpt_kit.model import GPTModel, count_model

BYTES_PER_TRAINED = 12  # gradient and AdamW's two moments in float32


@dataclass(frozen=True, kw_only=True, slots=True)
class FrozenReport:
    """What `freeze` froze."""

    names: tuple[str, ...]
    """The parameters that are not trained, in the order of the computation."""
    frozen_parameters: int
    """How many numbers they hold."""
    trained_parameters: int
    """How many numbers are still trained."""


def freeze(model: GPTModel, patterns: Sequence[str]) -> FrozenReport:
    """Stop training every parameter whose name fits a pattern: `token_embedding*`, `blocks.[0-9].*`, `*norm*` (* ? [] as in a shell).

    Raises: ConfigError for a pattern that fits no parameter, or where nothing is left to train; the model is then as it was.
    """
    parameters = dict(model.named_parameters())
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in parameters):
            raise ConfigError(_fits_nothing(pattern, model))
    names = [name for name, parameter in parameters.items() if not parameter.requires_grad or _fits(name, patterns)]
    if len(names) == len(parameters):
        raise ConfigError(f"freezing {', '.join(patterns)} leaves nothing to train. Freeze less")
    for name in names:
        parameters[name].requires_grad_(False)
    trained, total = count_parameters(model)
    return FrozenReport(names=tuple(names), frozen_parameters=total - trained, trained_parameters=trained)


def count_parameters(model: GPTModel) -> tuple[int, int]:
    """Trained parameters, and all of them; rows that pad the vocabulary do not count, A and B of LoRA do."""
    padding = model.config.padded_vocab_size - model.config.vocab_size
    trained = total = 0
    for name, parameter in model.named_parameters():
        number = parameter.numel()
        if name.startswith(("token_embedding.", "head.")) and model.config.padded_vocab_size in parameter.shape:
            number -= number // model.config.padded_vocab_size * padding
        total += number
        trained += number if parameter.requires_grad else 0
    return trained, total


def trainable_summary(model: GPTModel) -> str:
    """`trains 1,179,648 of 125,619,456 parameters (0.94%): 14.2 MB for gradients and AdamW instead of 1,493.3 MB`"""
    trained, total = count_parameters(model)
    without_lora = count_model(model.config).total_parameters
    needed, whole = (f"{number * BYTES_PER_TRAINED / 1e6:,.1f} MB" for number in (trained, without_lora))
    share = f"trains {trained:,} of {total:,} parameters ({trained / total:.2%})"
    return share if trained == total else f"{share}: {needed} for gradients and AdamW instead of {whole}"


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _fits_nothing(pattern: str, model: GPTModel) -> str:
    names = [name for name, _ in model.named_parameters()]
    parts = {".".join(name.split(".")[:depth]) + ".*" for name in names for depth in (1, 2, 3)}
    hint = did_you_mean(pattern, [*names, *sorted(parts)])
    if pattern.startswith("head") and model.head is None:
        hint = " (this model's head is its token embedding: token_embedding.*)"
    return f"no parameter's name fits the pattern {pattern!r}{hint}. Names are as {names[0]}, {names[len(names) // 2]}, {names[-1]}"
