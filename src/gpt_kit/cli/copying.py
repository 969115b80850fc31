"""A model from anywhere, written as one Hugging Face folder: what `import` and `merge` share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gpt_kit.cli.display import console, note
from gpt_kit.errors import DataError, TokenizerError
from gpt_kit.files import atomic_folder

if TYPE_CHECKING:
    from gpt_kit.model import GPTModel
    from gpt_kit.tokenizers import Tokenizer


def refuse_existing(destination: Path) -> None:
    """Raises: DataError where something is there."""
    if destination.exists():
        raise DataError(f"{destination}: already exists. Choose another destination, or delete it first")


def copy_model(source: Path, destination: Path, done: str) -> tuple[GPTModel, Tokenizer | None]:
    """Write the model of `source`, checked, with its tokenizer if it has one, whole or not at all; and say what was `done`."""
    from gpt_kit.model import GPTModel
    from gpt_kit.tokenizers import load_tokenizer
    from gpt_kit.weights import save_weights

    model = GPTModel.from_pretrained(source)
    try:
        tokenizer = load_tokenizer(source)
    except TokenizerError as error:
        tokenizer = None
        note(f"{done} without a tokenizer: {error}")
    tensors = model.exported_tensors()
    with atomic_folder(destination) as folder:
        save_weights(folder, model.config, tensors, end_of_text_id=tokenizer.end_of_text_id if tokenizer else None)
        if tokenizer:
            tokenizer.save(folder)
    total = sum(tensor.numel() for tensor in tensors.values())
    console.print(f"{destination}: {total:,} parameters, {model.config.n_layer} layers, {done}; a forward pass is finite")
    return model, tokenizer
