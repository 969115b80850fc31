"""Teaching a finished model: what of it is trained, from outside (LoRA, freezing)."""

from gpt_kit.finetuning.adapter_files import AdapterFiles
from gpt_kit.finetuning.answers import write_answers
from gpt_kit.finetuning.classification import (
    Classification,
    ClassifierFiles,
    balanced_weights,
    classifier_on,
    labelling_tokenizer,
)
from gpt_kit.finetuning.examples import encode_conversations, problem_of, refuse_unusable
from gpt_kit.finetuning.freeze import FrozenReport, count_parameters, freeze, trainable_summary
from gpt_kit.finetuning.lora import LoraEmbedding, LoraLinear, add_lora, lora_tensors

__all__ = [
    "AdapterFiles",
    "Classification",
    "ClassifierFiles",
    "FrozenReport",
    "LoraEmbedding",
    "LoraLinear",
    "add_lora",
    "balanced_weights",
    "classifier_on",
    "count_parameters",
    "encode_conversations",
    "freeze",
    "labelling_tokenizer",
    "lora_tensors",
    "problem_of",
    "refuse_unusable",
    "trainable_summary",
    "write_answers",
]
