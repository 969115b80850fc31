"""Text -> batches: sources, shards, order, windows, instructions and conversations."""

from gpt_kit.data.ahead import ReadAhead
from gpt_kit.data.batches import Batch, Batches, BatchSequence, EvaluationBatches, TrainingBatches
from gpt_kit.data.bins import export_bins, refuse_large_vocabulary
from gpt_kit.data.conversations import Conversation, read_conversations
from gpt_kit.data.corpus import Corpus, absolute_source, corpus_settings, open_corpus
from gpt_kit.data.instructions import InstructionDataset, create_instruction_collate_fn
from gpt_kit.data.labelled import LabelledTexts, read_labelled
from gpt_kit.data.labelled_batches import LabelledBatch, LabelledBatches, LabelledEvaluation, LabelledIds
from gpt_kit.data.packing import Example, ExampleBatches, ExampleEvaluation, packed
from gpt_kit.data.prepare import prepare_corpus
from gpt_kit.data.pretraining import GPTPretrainingDataset, create_pretraining_dataloader
from gpt_kit.data.shards import ShardWriter, TokenArray, is_corpus, open_shard
from gpt_kit.data.sources import Document, read_documents

__all__ = [
    "Batch",
    "BatchSequence",
    "Batches",
    "Conversation",
    "Corpus",
    "Document",
    "EvaluationBatches",
    "Example",
    "ExampleBatches",
    "ExampleEvaluation",
    "GPTPretrainingDataset",
    "InstructionDataset",
    "LabelledBatch",
    "LabelledBatches",
    "LabelledEvaluation",
    "LabelledIds",
    "LabelledTexts",
    "ReadAhead",
    "ShardWriter",
    "TokenArray",
    "TrainingBatches",
    "absolute_source",
    "corpus_settings",
    "create_instruction_collate_fn",
    "create_pretraining_dataloader",
    "export_bins",
    "is_corpus",
    "open_corpus",
    "open_shard",
    "packed",
    "prepare_corpus",
    "read_conversations",
    "read_documents",
    "read_labelled",
    "refuse_large_vocabulary",
]
