"""The first thing to try with a new model: can it learn one small batch by heart? If not, something is broken.

python examples/overfit_one_batch.py
"""

import torch

from gpt_kit import GPTModel, create_model_config, create_pretraining_dataloader, load_tokenizer, train_step_with_gradient_clipping
from gpt_kit.data import Batch
from gpt_kit.evaluation import predict_batch, predictions_as_markdown

TEXT = """A tokenizer cuts text into tokens. A model reads tokens and guesses the next one. Training makes the guesses better,
and generation writes the guesses down. Everything else is bookkeeping, and the bookkeeping has to be exact."""

torch.manual_seed(123)
config = create_model_config(
    "gpt2-small (124M)", n_layer=2, n_embd=64, n_head=4, max_position_embeddings=16,
    embedding_dropout=0.0, attention_dropout=0.0, residual_dropout=0.0,
)  # fmt: skip
model = GPTModel(config)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
inputs, targets = next(iter(create_pretraining_dataloader(TEXT, batch_size=2, max_length=16, stride=16, shuffle=False)))

step, loss = 0, float("inf")
while loss >= 0.01 and step < 500:
    loss = train_step_with_gradient_clipping(inputs, targets, model, optimizer, "cpu")
    step += 1
print(f"loss {loss:.4f} after {step} steps\n")
print(predictions_as_markdown(predict_batch(model, Batch(inputs, targets), load_tokenizer("gpt2"), torch.device("cpu"))))
