"""A run's folder -> what a report tells of it. Whatever is missing or damaged is left out and named in its `problems`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from gpt_kit.errors import GPTKitError
from gpt_kit.evaluation.report.reading import read_bytes, read_lines, read_object, read_text, read_toml
from gpt_kit.evaluation.report.runs import WEIGHTS, RunFacts
from gpt_kit.evaluation.report.scores import LARGEST, newest, read_scores
from gpt_kit.files import MANIFEST, check_manifest, sha256_of_file
from gpt_kit.locate import best_checkpoint, run_of

STATE_FOLDER = "training_state"
LONGEST_SAMPLE = 4000  # characters
PNG = b"\x89PNG"
SHAPE = {"layers": "n_layer", "width": "n_embd", "heads": "n_head", "context": "max_position_embeddings", "vocabulary": "vocab_size"}


def read_run(path: Path, name: str) -> RunFacts | None:
    """What `path` holds: a run, a model's folder, or a .jsonl file of scores; None where it is neither."""
    if path.is_file() and path.suffix == ".jsonl":
        facts = RunFacts(name=name, folder=path)
        facts.scores = newest(read_scores(path, facts.problems), of_each_model=True)
        return facts
    folder = run_of(path) or (path if (path / "config.json").is_file() or (path / "adapter_config.json").is_file() else None)
    if folder is None:
        return None
    facts = RunFacts(name=name, folder=folder)
    problems = facts.problems
    facts.config_text = read_text(folder / "config.toml", problems)
    facts.config = {name: section for name, section in read_toml(folder / "config.toml", problems).items() if isinstance(section, dict)}
    facts.environment = read_object(folder / "environment.json", problems)
    facts.records = read_lines(folder / "metrics.jsonl", _record, "a record of a run", problems)
    scores = read_scores(folder / "evaluations.jsonl", problems)
    facts.sample = _last_sample(read_text(folder / "samples.md", problems))
    picture = read_bytes(folder / "confusion.png", problems)
    facts.picture = picture if picture.startswith(PNG) else b""
    _read_checkpoint(facts)
    _read_corpus(facts)
    facts.scores = newest(sorted(scores, key=lambda score: score.model_sha256 in facts.manifest.values()))  # those of its best weights win
    return facts


def _record(record: dict[str, Any]) -> dict[str, Any]:
    """Numbers only: whatever else stands in a line is nobody's figure. Raises as `read_lines` wishes."""
    numbers = {name: value for name, value in record.items() if isinstance(value, int | float) and abs(value) <= LARGEST}  # not NaN
    return {**numbers, "step": numbers["step"], "tokens_seen": numbers["tokens_seen"]}


def _last_sample(text: str) -> str:
    """What stands below the last heading, without fences and tables."""
    _, heading, section = text.rpartition("\n## step ") if "\n## step " in text else text.partition("## step ")
    lines = [line for line in section.splitlines()[1:] if not line.startswith(("````", "|"))]
    return "\n".join(lines).strip("\n")[:LONGEST_SAMPLE] if heading else ""


def _read_checkpoint(facts: RunFacts) -> None:
    """The best checkpoint's figures. One that does not match its manifest is named, and none of them is taken from it."""
    try:
        folder = best_checkpoint(facts.folder) if run_of(facts.folder) else facts.folder
        if run_of(facts.folder) or (folder / MANIFEST).is_file():
            check_manifest(folder, but_not=STATE_FOLDER)
    except GPTKitError as error:
        facts.problems.append(str(error))
        return
    facts.checkpoint = folder
    facts.manifest = {str(name): str(digest) for name, digest in read_object(folder / MANIFEST, facts.problems).items()}
    for name in WEIGHTS:
        if name not in facts.manifest and (folder / name).is_file():
            facts.manifest[name] = sha256_of_file(folder / name)
    facts.state = _state(folder, facts.manifest, facts.problems)
    _read_model(facts, folder)


def _state(folder: Path, manifest: dict[str, str], problems: list[str]) -> dict[str, Any]:
    """What a report needs of the training state, which may have been deleted to save room."""
    name = f"{STATE_FOLDER}/state.json"
    if not (folder / name).is_file():
        return {}
    if sha256_of_file(folder / name) != manifest.get(name):
        problems.append(f"{folder / name}: does not match its manifest; left out")
        return {}
    found, kinds = read_object(folder / name, problems), {"step": int, "tokens_seen": int, "data_order": dict}
    return {name: found[name] for name, kind in kinds.items() if isinstance(found.get(name), kind)}


def _read_model(facts: RunFacts, folder: Path) -> None:
    from safetensors import SafetensorError, safe_open

    from gpt_kit.tokenizers import load_tokenizer
    from gpt_kit.weights.huggingface_config import read_config

    told = facts.config.get("model", {})
    facts.shape = {name: told[key] for name, key in SHAPE.items() if isinstance(told.get(key), int)}
    try:
        if (folder / "config.json").is_file():
            model = read_config(folder / "config.json")[0]
            facts.shape = {name: getattr(model, key) for name, key in SHAPE.items()}
        tokenizer = load_tokenizer(folder)
        facts.tokenizer = f"{tokenizer.name}, {tokenizer.vocab_size:,} entries"
    except GPTKitError as error:
        facts.problems.append(str(error))
    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is not None:
        try:
            with safe_open(file, framework="np") as tensors:
                sizes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118 (no mapping)
            facts.parameters = sum(math.prod(shape) for shape in sizes)
        except (SafetensorError, OSError) as error:
            facts.problems.append(f"{file}: not a whole safetensors file ({error})")


def _read_corpus(facts: RunFacts) -> None:
    """corpus.json of the run's own or of the one that its settings name, if that is still the same."""
    from gpt_kit.data import is_corpus

    source = str(facts.config.get("data", {}).get("source") or "")
    places = [facts.folder / "corpus", *([Path(source).expanduser()] if source else [])]
    folder = next((folder for folder in places if is_corpus(folder)), None)
    if folder is None:
        return
    fingerprint, expected = sha256_of_file(folder / MANIFEST) if (folder / MANIFEST).is_file() else "", facts.data_hashes.get("corpus")
    if expected and fingerprint != expected:
        facts.problems.append(
            f"{folder}: this corpus is not the one that the run read (SHA-256 {fingerprint[:8]}…, expected {expected[:8]}…); left out"
        )
        return
    for side, told in read_object(folder / "corpus.json", facts.problems).items():
        if side in ("train", "val") and isinstance(told, dict) and all(isinstance(told.get(name), int) for name in ("tokens", "bytes")):
            facts.corpus[side] = told
