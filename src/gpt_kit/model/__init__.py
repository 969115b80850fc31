"""The model: token ids -> logits, on one device. Knows nothing of text, files of training, or other machines."""

from gpt_kit.model.adapted import Adapted
from gpt_kit.model.attention import MultiHeadAttention, blocked_attention, fused_attention, written_out_attention
from gpt_kit.model.block import TransformerBlock
from gpt_kit.model.cache import KVCache
from gpt_kit.model.classifier import GPTClassifier
from gpt_kit.model.counting import ModelCounts, count_model
from gpt_kit.model.dropout import Dropout, drop
from gpt_kit.model.gpt import GPTModel
from gpt_kit.model.layers import GELU, FeedForward, LayerNorm
from gpt_kit.model.loss import IGNORE_INDEX, linear_cross_entropy_sum

__all__ = [
    "GELU",
    "IGNORE_INDEX",
    "Adapted",
    "Dropout",
    "FeedForward",
    "GPTClassifier",
    "GPTModel",
    "KVCache",
    "LayerNorm",
    "ModelCounts",
    "MultiHeadAttention",
    "TransformerBlock",
    "blocked_attention",
    "count_model",
    "drop",
    "fused_attention",
    "linear_cross_entropy_sum",
    "written_out_attention",
]
