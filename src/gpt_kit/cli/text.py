"""The text of a run: a prepared corpus, or raw text that is prepared on the fly; and the model's vocabulary, which follows from it."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from gpt_kit.cli.display import PrepareDisplay, note
from gpt_kit.cli.resume import refuse_changes
from gpt_kit.config import PRESETS, CorpusConfig, ModelConfig, RunConfig, create_model_config
from gpt_kit.data import Corpus, absolute_source, corpus_settings, is_corpus, open_corpus, prepare_corpus
from gpt_kit.errors import ConfigError
from gpt_kit.files import INCOMPLETE, incomplete_folder
from gpt_kit.tokenizers import Tokenizer, load_tokenizer

CONTIGUOUS_WARNING = (
    "validation is the end of the same text: it tells how well the model continues this text, not how well it does on others"
)


def corpus_of(config: RunConfig, run: Path, *, resuming: bool) -> Corpus:
    """A fresh run prepares its text anew, a resumed one has it. Raises: ConfigError where other text is asked for in mid-run."""
    if not (resuming and is_corpus(run / "corpus")):
        return open_or_prepare(config, run)
    corpus = _opened(run / "corpus", config)
    had = {"source": corpus.info["source"], **corpus_settings(CorpusConfig()), **corpus.info["settings"]}
    settings = {} if "joined" in corpus.info else corpus_settings(config.data)  # of joined corpora the parts' settings were kept
    wanted = {"source": absolute_source(config.data.source), **settings}
    refuse_changes(had, wanted, "data.", f"{run}: a run keeps its text")
    return corpus


def open_or_prepare(config: RunConfig, run: Path) -> Corpus:
    """The prepared corpus that `data.source` names; raw text is prepared now, into the run's own folder."""
    source = config.data.source
    if not source:
        raise ConfigError("no text to train on: name a prepared corpus or raw text with --data (or [data] source in the TOML file)")
    if is_corpus(Path(source)):
        corpus = _opened(Path(source), config)
        _check_tokenizer_wanted(config, corpus)
        return corpus
    for leftover in run.glob(f"{INCOMPLETE}*"):  # of a preparation that was killed
        if leftover != incomplete_folder(run / "corpus"):  # this one is taken up
            shutil.rmtree(leftover, ignore_errors=True)
    with PrepareDisplay() as progress:
        corpus = prepare_corpus(source, run / "corpus", config.data, progress, note)
    if corpus.info["split"] == "contiguous" and len(corpus.val):
        note(CONTIGUOUS_WARNING)
    return corpus


def _opened(folder: Path, config: RunConfig) -> Corpus:
    with PrepareDisplay() as progress:
        return open_corpus(folder, verify=config.data.verify, progress=progress)


def with_vocabulary(model: ModelConfig, tokenizer: Tokenizer) -> ModelConfig:
    """The model's shape with the tokenizer's vocabulary. Raises: ConfigError when another size was asked for."""
    published = {ModelConfig().vocab_size, *(preset["vocab_size"] for preset in PRESETS.values() if "vocab_size" in preset)}
    if model.vocab_size not in published | {tokenizer.vocab_size}:
        raise ConfigError(
            f"model.vocab_size is {model.vocab_size}, but the tokenizer {tokenizer.name!r} has {tokenizer.vocab_size} entries. "
            "Leave it out: it is taken from the tokenizer (model.vocab_multiple pads it)"
        )
    return dataclasses.replace(model, vocab_size=tokenizer.vocab_size)


def note_foreign_tokenizer(model: ModelConfig, tokenizer: Tokenizer) -> None:
    gpt1 = create_model_config("openai-gpt")
    if model.norm == gpt1.norm and model.vocab_size == gpt1.vocab_size != tokenizer.vocab_size:
        note(
            f"a model of GPT-1's shape, with the {tokenizer.vocab_size:,} entries of {tokenizer.name} instead of GPT-1's "
            f"{gpt1.vocab_size:,}. Its own tokenizer comes from a folder or the hub: --data.tokenizer openai-community/openai-gpt"
        )


def _check_tokenizer_wanted(config: RunConfig, corpus: Corpus) -> None:
    wanted, had = config.data.tokenizer, corpus.info["settings"]["tokenizer"]
    if wanted in (CorpusConfig().tokenizer, had):
        return
    if wanted in ("bpe", "char") or load_tokenizer(wanted).fingerprint != corpus.tokenizer.fingerprint:
        raise ConfigError(
            f"{corpus.folder}: this corpus was cut by tokenizer {had!r}, but data.tokenizer is {wanted!r}. "
            f"Leave the setting out, or prepare the text again: gpt-kit prepare {corpus.info['source']} --tokenizer {wanted} --out FOLDER"
        )
