"""gpt-kit: from raw text to a GPT of your own.

The public names stand here and are looked up where they live on first use, so that `import gpt_kit` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gpt_kit.version import __version__

_HOMES = {
    "gpt_kit.amp": ["AMPTrainer"],
    "gpt_kit.config": ["ModelConfig", "RunConfig", "create_model_config", "load_run_config"],
    "gpt_kit.data": [
        "GPTPretrainingDataset",
        "InstructionDataset",
        "create_instruction_collate_fn",
        "create_pretraining_dataloader",
        "open_corpus",
        "prepare_corpus",
    ],
    "gpt_kit.errors": ["GPTKitError"],
    "gpt_kit.evaluation": ["generate_text_autoregressive", "text_to_token_ids", "token_ids_to_text"],
    "gpt_kit.generation": ["Sampling", "generate_text", "stream_text"],
    "gpt_kit.model": [
        "FeedForward",
        "GELU",
        "GPTClassifier",
        "GPTModel",
        "KVCache",
        "LayerNorm",
        "MultiHeadAttention",
        "TransformerBlock",
        "count_model",
    ],
    "gpt_kit.tokenizers": ["Tokenizer", "load_tokenizer", "train_tokenizer"],
    "gpt_kit.training": ["compute_batch_loss", "compute_loader_loss", "train_step_with_gradient_clipping"],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]

if TYPE_CHECKING:
    from gpt_kit.amp import AMPTrainer as AMPTrainer
    from gpt_kit.config import ModelConfig as ModelConfig
    from gpt_kit.config import RunConfig as RunConfig
    from gpt_kit.config import create_model_config as create_model_config
    from gpt_kit.config import load_run_config as load_run_config
    from gpt_kit.data import GPTPretrainingDataset as GPTPretrainingDataset
    from gpt_kit.data import InstructionDataset as InstructionDataset
    from gpt_kit.data import create_instruction_collate_fn as create_instruction_collate_fn
    from gpt_kit.data import create_pretraining_dataloader as create_pretraining_dataloader
    from gpt_kit.data import open_corpus as open_corpus
    from gpt_kit.data import prepare_corpus as prepare_corpus
    from gpt_kit.errors import GPTKitError as GPTKitError
    from gpt_kit.evaluation import generate_text_autoregressive as generate_text_autoregressive
    from gpt_kit.evaluation import text_to_token_ids as text_to_token_ids
    from gpt_kit.evaluation import token_ids_to_text as token_ids_to_text
    from gpt_kit.generation import Sampling as Sampling
    from gpt_kit.generation import generate_text as generate_text
    from gpt_kit.generation import stream_text as stream_text
    from gpt_kit.model import GELU as GELU
    from gpt_kit.model import FeedForward as FeedForward
    from gpt_kit.model import GPTClassifier as GPTClassifier
    from gpt_kit.model import GPTModel as GPTModel
    from gpt_kit.model import KVCache as KVCache
    from gpt_kit.model import LayerNorm as LayerNorm
    from gpt_kit.model import MultiHeadAttention as MultiHeadAttention
    from gpt_kit.model import TransformerBlock as TransformerBlock
    from gpt_kit.model import count_model as count_model
    from gpt_kit.tokenizers import Tokenizer as Tokenizer
    from gpt_kit.tokenizers import load_tokenizer as load_tokenizer
    from gpt_kit.tokenizers import train_tokenizer as train_tokenizer
    from gpt_kit.training import compute_batch_loss as compute_batch_loss
    from gpt_kit.training import compute_loader_loss as compute_loader_loss
    from gpt_kit.training import train_step_with_gradient_clipping as train_step_with_gradient_clipping


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'gpt_kit' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
