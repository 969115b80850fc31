"""`samples.md` of a chat model: what it answers at each evaluation, beside what it should."""

from __future__ import annotations

from pathlib import Path

from gpt_kit.config import EvaluationConfig
from gpt_kit.data import Example, ExampleEvaluation
from gpt_kit.files import full_disk_explained
from gpt_kit.generation import generate_ids
from gpt_kit.model import GPTModel
from gpt_kit.runtime import without_compiling
from gpt_kit.tokenizers import Tokenizer

SHOWN = 3  # examples to validate on
FENCE = "````"


def write_answers(
    run: Path, settings: EvaluationConfig, model: GPTModel, batches: ExampleEvaluation, tokenizer: Tokenizer, step: int, val_loss: float
) -> None:
    """Append a section for `step` to RUN/samples.md: the same questions each time, answered greedily. Raises: DiskFullError."""
    sections = [f"## step {step}, validation loss {val_loss:.3f}\n"]
    for example in batches.examples[-SHOWN:]:
        asked, wanted = question_and_answer(example)
        with without_compiling():  # each length of text would be compiled anew
            given = answer(model, asked, settings.sample_tokens, tokenizer)
        texts = (("asked", tokenizer.decode(asked)), ("wanted", tokenizer.decode(wanted)), ("answered", given))
        sections += [f"{what}:\n{FENCE}text\n{text}\n{FENCE}\n" for what, text in texts]
    path = run / "samples.md"
    with full_disk_explained(path), open(path, "a", encoding="utf-8") as file:
        file.write("\n".join(sections) + "\n")


def question_and_answer(example: Example) -> tuple[list[int], list[int]]:
    """Ids up to the first answer, and that answer's."""
    start = example.trained.index(True)
    end = next((i for i in range(start, len(example.ids)) if not example.trained[i]), len(example.ids))
    return example.ids[:start], example.ids[start:end]


def answer(model: GPTModel, asked: list[int], max_new_tokens: int, tokenizer: Tokenizer) -> str:
    """The most probable answer; with the end token where the model ended it."""
    room = min(max_new_tokens, model.config.max_position_embeddings - len(asked))
    ids = [token for (token,) in generate_ids(model, [asked], max(room, 0), stop_id=None) if token is not None]
    end = tokenizer.end_of_text_id
    stop = ids.index(end) + 1 if end in ids else len(ids)
    return tokenizer.decode(ids[:stop])
