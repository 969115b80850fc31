"""llama.cpp itself opens what `write_gguf` wrote: the same tokens of a text, the same greedy continuation, the same chat format.

Its matrix products are the reference's; but it takes GELU from a table of float16 numbers (ggml's GELU_FP16), hence the bound on
log-probabilities. Attention is the written-out one with a float32 cache, for flash attention rounds keys and values to float16.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from gpt_kit.config import ModelConfig
from gpt_kit.model import GELU, GPTModel
from gpt_kit.tokenizers import Message, Tokenizer, chat_tokenizer, load_tokenizer, render_chat, train_tokenizer
from gpt_kit.weights import Weights
from gpt_kit.weights.gguf import GGUFType, write_gguf
from gpt_kit.weights.gguf_vocabulary import gguf_vocabulary

llama = pytest.importorskip("xllamacpp", reason="llama.cpp is not installed: pip install xllamacpp")

PROMPTS = (
    "Hello, I'm a language model,",
    "The",
    "In 1984, 中文 and emoji 🙂 …",
    "def f(x):\n    return x**2\n\n",
    "  spaces   and\t\ttabs  \n\n\nlines <|endoftext|> ",
)
NEW_TOKENS = 40
NEAR = 0.002  # between two log-probabilities: float16 is rounded otherwise by CPUs that have instructions for it, and either may win
Ask = Callable[..., Any]


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[GPTModel, Tokenizer, GGUFType], Ask]:
    """Write a model and open it in llama.cpp; gives a function that asks its server on the loopback."""
    servers = []

    def open_model(model: GPTModel, tokenizer: Tokenizer, kind: GGUFType) -> Ask:
        path = tmp_path / f"{len(servers)}.gguf"
        vocabulary = gguf_vocabulary(
            tokenizer.document(), model.config.vocab_size, end_of_text_id=tokenizer.end_of_text_id, chat_template=tokenizer.chat_template
        )
        write_gguf(path, Weights(model.config, model.exported_tensors()), vocabulary, kind=kind)
        settings = llama.CommonParams()
        settings.model.path, settings.port, settings.verbosity = str(path), 0, 0
        settings.n_ctx, settings.n_parallel, settings.n_gpu_layers = 256, 1, 0
        settings.warmup = settings.fit_params = False
        settings.use_jinja = settings.enable_chat_template = True
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
        settings.cache_type_k = settings.cache_type_v = llama.ggml_type.GGML_TYPE_F32
        settings.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        server = llama.Server(settings)
        servers.append(server)

        def ask(route: str, **body: Any) -> Any:
            request = urllib.request.Request(
                server.listening_address + route, json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)

        return ask

    return open_model


@torch.no_grad()
def judged(model: GPTModel, prompt: list[int], written: list[int]) -> tuple[list[float], list[float]]:
    """Of each token that was written: its log-probability, and how far it lies below the most probable one's."""
    scores = model(torch.tensor([prompt + written]))[0, len(prompt) - 1 : -1].log_softmax(-1)
    own = scores.gather(1, torch.tensor(written)[:, None])[:, 0]
    return own.tolist(), (scores.amax(-1) - own).tolist()


def in_half(model: GPTModel) -> GPTModel:
    """The same model, computed as ggml does where matrices are float16: what is multiplied with them is rounded to float16 too."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and not name.startswith("position"):
                parameter.copy_(parameter.half())
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_pre_hook(lambda _, inputs: (inputs[0].half().float(),))
        if isinstance(layer, GELU):  # the table's argument; what comes out of it goes into a matrix
            layer.register_forward_pre_hook(lambda _, inputs: (inputs[0].half().float(),))
    model.final_norm.register_forward_hook(lambda _, __, output: output.half().float())  # what goes into the tied head
    return model


@pytest.mark.parametrize("kind", ["f32", "f16"])
@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_llama_cpp_writes_the_same_tokens(
    opened: Callable[..., Ask], random_model: Callable[..., GPTModel], kind: Literal["f32", "f16"], positions: Any
) -> None:
    """GPT-2's vocabulary; C=96, H=4, L=3, P=128. Several prompts, 40 tokens each, every one the most probable, and how probable it was."""
    tokenizer = load_tokenizer("gpt2")
    config = ModelConfig(n_embd=96, n_head=4, n_layer=3, max_position_embeddings=128, position_embedding=positions)
    model = random_model(config)
    ask = opened(model, tokenizer, kind)
    reference = in_half(model) if kind == "f16" else model
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt)
        answer = ask(
            "/completion", prompt=ids, n_predict=NEW_TOKENS, temperature=0, samplers=["temperature"], return_tokens=True, n_probs=1
        )
        log_probabilities, behind = judged(reference, ids, answer["tokens"])
        assert len(behind) == NEW_TOKENS
        assert max(behind) <= (0 if kind == "f32" else NEAR)
        found = [token["logprob"] for token in answer["completion_probabilities"]]
        assert found == pytest.approx(log_probabilities, abs=0.003 if kind == "f32" else 0.005)


@pytest.mark.parametrize("name", ["gpt2", "bpe", "byte"])
def test_llama_cpp_cuts_text_into_the_same_tokens(
    opened: Callable[..., Ask], random_model: Callable[..., GPTModel], data_folder: Path, name: str
) -> None:
    """Text that spells a special token stays text, and it decodes to what it was."""
    book = (data_folder / "the-verdict.txt").read_text(encoding="utf-8")
    tokenizer = train_tokenizer("bpe", [book], 600) if name == "bpe" else load_tokenizer(name)
    ask = opened(random_model(ModelConfig(vocab_size=tokenizer.vocab_size, n_embd=8, n_head=1, n_layer=1)), tokenizer, "f32")
    for text in (*PROMPTS, book[:3000], "don't you'll I'VE a\r\n\u00a0b \u3000 0123456789 ½²", "\x00\x7f"):
        ids = tokenizer.encode(text)
        assert ask("/tokenize", content=text, parse_special=False)["tokens"] == ids
        assert ask("/detokenize", tokens=ids)["content"] == text


def test_llama_cpp_speaks_the_chat_format(opened: Callable[..., Ask], random_model: Callable[..., GPTModel]) -> None:
    tokenizer = chat_tokenizer(load_tokenizer("byte"))
    ask = opened(random_model(ModelConfig(vocab_size=tokenizer.vocab_size, n_embd=8, n_head=1, n_layer=1)), tokenizer, "f32")
    said = [("system", "Be brief."), ("user", "Who?"), ("assistant", "Me."), ("user", "Why?\n")]
    prompt = ask("/apply-template", messages=[{"role": role, "content": content} for role, content in said])["prompt"]
    expected = render_chat(tokenizer, [Message(role, content) for role, content in said], add_generation_prompt=True)  # type: ignore[arg-type]
    assert ask("/tokenize", content=prompt, parse_special=True)["tokens"] == expected.ids
