"""From raw text to a GPT that writes, with the kit's building blocks and your own loop.

python examples/train_gpt.py book.txt            # no argument: a few lines of this file
"""

import sys
from pathlib import Path

import torch

from gpt_kit import (
    AMPTrainer,
    GPTModel,
    compute_loader_loss,
    create_model_config,
    create_pretraining_dataloader,
    generate_text_autoregressive,
    load_tokenizer,
    text_to_token_ids,
    token_ids_to_text,
)

text = Path(sys.argv[1] if len(sys.argv) > 1 else __file__).read_text(encoding="utf-8")
epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 3
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(123)

# Text -> batches: windows of 64 tokens that overlap by half; the last tenth of the text is set aside.
border = int(0.9 * len(text))
train_loader = create_pretraining_dataloader(text=text[:border], batch_size=4, max_length=64, stride=32)
val_loader = create_pretraining_dataloader(text=text[border:], batch_size=1, max_length=64, stride=64, shuffle=False, drop_last=False)

# A GPT-2 in small: the published shape, with changes.
config = create_model_config("gpt2-small (124M)", n_layer=4, n_embd=128, n_head=4, max_position_embeddings=64)
model = GPTModel(config).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
trainer = AMPTrainer("auto")  # bfloat16 where the hardware has it

for epoch in range(epochs):
    losses = [trainer.train_step(inputs, targets, model, optimizer, device) for inputs, targets in train_loader]
    val_loss = compute_loader_loss(val_loader, model, device)
    print(f"epoch {epoch + 1}: training loss {sum(losses) / len(losses):.3f}, validation loss {val_loss:.3f}")

# Prompt -> ids -> more ids -> text.
tokenizer = load_tokenizer("gpt2")
prompt = text_to_token_ids(text[:40], tokenizer).to(device)
ids = generate_text_autoregressive(model=model, token_ids=prompt, max_new_tokens=40, temperature=0.8, top_k=50)
print(token_ids_to_text(ids, tokenizer))
