"""Teaching a finished model: what of it is trained, from outside (LoRA, freezing)."""

from gpt_kit.finetuning.adapter_files import AdapterFiles
from gpt_kit.finetuning.freeze import FrozenReport, count_parameters, freeze, trainable_summary
from gpt_kit.finetuning.lora import LoraEmbedding, LoraLinear, add_lora, lora_tensors

__all__ = [
    "AdapterFiles",
    "FrozenReport",
    "LoraEmbedding",
    "LoraLinear",
    "add_lora",
    "count_parameters",
    "freeze",
    "lora_tensors",
    "trainable_summary",
]
