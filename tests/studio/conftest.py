"""A runs folder as people have it: a finished run with a small model, a chat model, one cut short; all of byte tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt_kit.config import ModelConfig
from gpt_kit.model import GPTModel
from gpt_kit.tokenizers import Tokenizer, chat_tokenizer, load_tokenizer

HOSTILE = "<script>window.hurt = 1</script> **bold** [link](http://example.com) :red[red] $x$"
SAMPLES = f"""## step 4, validation loss 4.100

````text
Once {HOSTILE}
````

| input | target | predicted | p(target) | |
|---|---|---|---|---|
| `a` | `b` | `<b>` | 0.250 |  |
| `b` | `c` | `c` | 0.500 | ✓ |

## step 8, validation loss 3.900

````text
Twice
## step 9, not a heading
````
"""
CHAT_SAMPLES = """## step 4, validation loss 0.500

asked:
````text
<|user|>What does it do?<|assistant|>
````

answered:
````text
Nothing.<|endoftext|>
````

asked:
````text
<|user|>What is `this` *here*?<|assistant|>
````
"""


def write_model(folder: Path, model: GPTModel, tokenizer: Tokenizer) -> None:
    model.save_pretrained(folder, end_of_text_id=tokenizer.end_of_text_id)
    tokenizer.save(folder)


@pytest.fixture(scope="session")
def byte_model(random_model: Callable[..., GPTModel]) -> Callable[..., GPTModel]:
    """V=257 or what is asked for, T=48, C=24, H=3, D=8, L=2, with changes by keyword."""

    def make(vocab_size: int = 257, *, seed: int = 3, **changes: object) -> GPTModel:
        config = ModelConfig(vocab_size=vocab_size, max_position_embeddings=48, n_embd=24, n_head=3, n_layer=2, n_inner=40, **changes)
        return random_model(config, seed=seed)

    return make


def _write_run(run: Path, model: GPTModel, tokenizer: Tokenizer, *, section: str, samples: str, max_steps: int) -> None:
    write_model(run / "checkpoints" / "step-00000004", model, tokenizer)
    write_model(run / "checkpoints" / "step-00000008", model, tokenizer)
    (run / "checkpoints" / "best").write_text("step-00000008")
    config = f"[model]\nn_layer = 2\nn_embd = 24\n[training]\nmax_steps = {max_steps}\n" + (
        f"[{section}]\nepochs = 1.0\n" if section else ""
    )
    (run / "config.toml").write_text(config)
    (run / "samples.md").write_text(samples, encoding="utf-8")
    records = [
        {"step": step, "tokens_seen": 50 * step, "train/loss": 5 - step / 8, "grad_norm": 1.0, "tokens_per_second": 100.0}
        for step in range(1, 9)
    ]
    records += [{"step": step, "tokens_seen": 50 * step, "val/loss": 4.5 - step / 10} for step in (4, 8)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture(scope="session")
def runs_folder(tmp_path_factory: pytest.TempPathFactory, byte_model: Callable[..., GPTModel]) -> Path:
    """`story` (finished), `talk` (chat, wants 20 steps and made 8), `lone` (a model alone). Read only."""
    root = tmp_path_factory.mktemp("studio") / "runs"
    plain, chat = load_tokenizer("byte"), chat_tokenizer(load_tokenizer("byte"))
    _write_run(root / "story", byte_model(plain.vocab_size), plain, section="", samples=SAMPLES, max_steps=8)
    _write_run(root / "talk", byte_model(chat.vocab_size, seed=5), chat, section="sft", samples=CHAT_SAMPLES, max_steps=20)
    write_model(root / "lone", byte_model(plain.vocab_size, seed=7), plain)
    return root
