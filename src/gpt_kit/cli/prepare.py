"""`gpt-kit prepare`: text -> a corpus of tokens on disk."""

from __future__ import annotations

import itertools
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from gpt_kit.cli.arguments import parse
from gpt_kit.config import CorpusConfig, create_model_config
from gpt_kit.errors import ConfigError

if TYPE_CHECKING:
    from gpt_kit.cli.display import PrepareDisplay


@dataclass(frozen=True, kw_only=True)
class PrepareArguments:
    """Cut text into tokens, set validation text aside, and write both as a corpus."""

    source: tyro.conf.Positional[str]
    """A file (.txt .md .jsonl .json .parquet, also .gz .zst), a folder, a glob, '-' for stdin, 'python-docs', a dataset of the hub
    (owner/name, owner/name:config, openwebtext, fineweb-edu-10bt, bookcorpus, oasst1, tinyshakespeare, the-verdict), .bin files, or
    a folder of corpora to be joined."""
    out: Path
    """The corpus's folder; it appears when it is whole. Stopped work is taken up by the same command."""
    format: Literal["shards", "bin"] = "shards"
    """What to write: a corpus, or train.bin and val.bin with nothing but 16-bit ids, as nanoGPT reads them."""
    corpus: tyro.conf.OmitArgPrefixes[CorpusConfig] = field(default_factory=CorpusConfig)


def main(words: Sequence[str]) -> None:
    """Prepare the corpus and print what it holds."""
    _refuse_several_sources(words)
    arguments = parse(PrepareArguments, "prepare", words)

    from gpt_kit.cli.display import PrepareDisplay, console, note
    from gpt_kit.cli.text import CONTIGUOUS_WARNING
    from gpt_kit.data import is_corpus, prepare_corpus
    from gpt_kit.data.bins import bin_files, tokenizer_of_bins
    from gpt_kit.errors import DataError
    from gpt_kit.runtime import stoppable

    out, asked = arguments.out, arguments.corpus
    if is_corpus(out):
        raise DataError(f"{out}: already holds a corpus. Choose another --out, or delete that folder first")
    if out.exists() and any(out.iterdir()):
        raise DataError(f"{out}: this folder is not empty. Choose another --out")
    if arguments.format == "bin":
        _write_bins(arguments.source, out, asked)
        return
    if files := bin_files(arguments.source):
        is_named = any(word.split("=")[0] == "--tokenizer" for word in words)  # gpt2, the default, is no guess to make about ids
        tokenizer_of_bins(arguments.source, files, asked.tokenizer if is_named else None)
    if is_corpus(Path(arguments.source)):
        raise DataError(
            f"{arguments.source}: is a prepared corpus already. Train on it by --data, or turn it into .bin files: --format bin"
        )
    progress = PrepareDisplay()
    with stoppable(lambda number: _stopped(out, progress, number)), progress:
        corpus = prepare_corpus(arguments.source, out, asked, progress, note)
    entries = corpus.tokenizer.vocab_size
    console.print(f"{out}: tokenizer {corpus.tokenizer.name}, {entries:,} entries")
    if asked.tokenizer == "bpe" and entries < asked.vocab_size:
        note(f"the text ran out of pairs to merge, so {entries:,} entries instead of {asked.vocab_size:,}")
    for name in ("train", "val"):
        part = corpus.info[name]
        per_token = f", {part['bytes'] / part['tokens']:.2f} bytes per token" if part["tokens"] else ""
        console.print(f"  {name:<6}{part['tokens']:>14,} tokens  {part['documents']:>9,} documents  {part['bytes']:>14,} bytes{per_token}")
    print_read(corpus.info["read"])
    if corpus.info["split"] == "document" and corpus.info["duplicates"]:
        console.print(f"  {corpus.info['duplicates']:,} documents occur more than once; equal ones stand on the same side")
    if corpus.info["split"] == "contiguous" and part["tokens"]:
        note(CONTIGUOUS_WARNING)
        if seen := corpus.info.get("val_documents_seen_in_training"):
            note(f"{seen:,} validation documents also occur in the training text")
    near = corpus.info["near_duplicates"]
    if near["documents_near_training"]:
        count, checked = near["documents_near_training"], near["documents_checked"]
        note(
            f"{count:,} of the {checked:,} validation documents long enough to compare (of {part['documents']:,}) stand in the training "
            f"text too, word for word over long stretches, so the validation loss flatters; one place: {near['example']['text'][:80]!r}"
        )
    console.print(f"next    {_next_command(out, len(corpus.train))}")


def _refuse_several_sources(words: Sequence[str]) -> None:
    """What a shell makes of a pattern without quotes. Raises: ConfigError."""
    sources = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
    if len(sources) > 1:
        raise ConfigError(
            f"{len(sources)} sources ({sources[0]}, {sources[1]}{', …' * (len(sources) > 2)}), but a corpus is made of one. "
            "Give their folder, or a pattern in quotes: 'texts/*.txt'"
        )


def _write_bins(source: str, out: Path, asked: CorpusConfig) -> None:
    """train.bin and val.bin from a corpus, or from text by way of one that is thrown away."""
    from gpt_kit.cli.display import PrepareDisplay, console, note
    from gpt_kit.data import export_bins, is_corpus, open_corpus, prepare_corpus, refuse_large_vocabulary
    from gpt_kit.files import incomplete_folder, lock_folder
    from gpt_kit.runtime import stoppable
    from gpt_kit.tokenizers import load_tokenizer

    work = incomplete_folder(out.with_name(f"{out.name}-shards"))
    between = work / "corpus"
    progress = PrepareDisplay()
    with stoppable(lambda number: _stopped(between, progress, number)), progress, lock_folder(work):
        if is_corpus(Path(source)):
            corpus = open_corpus(Path(source), progress=progress)
        elif _was_made_from(between, source, asked):
            corpus = open_corpus(between, progress=progress)
        else:
            if asked.tokenizer not in ("bpe", "char"):
                refuse_large_vocabulary(load_tokenizer(asked.tokenizer))
            corpus = prepare_corpus(source, between, asked, progress, note)
        export_bins(out, {"train": corpus.train, "val": corpus.val}, corpus.tokenizer)
        shutil.rmtree(work, ignore_errors=True)
    for name, tokens in (("train", corpus.train), ("val", corpus.val)):
        if len(tokens):
            console.print(f"{out}/{name}.bin: {len(tokens):,} ids of {corpus.tokenizer.name}")


def _was_made_from(corpus: Path, source: str, asked: CorpusConfig) -> bool:
    """Whether `corpus` is there and what `source` would become. Of a stream nobody knows: it may give another text each time."""
    from gpt_kit.data import absolute_source, corpus_settings, is_corpus
    from gpt_kit.data.sources import STDIN
    from gpt_kit.files import read_json

    if not is_corpus(corpus) or source == STDIN or Path(source).is_fifo():
        return False
    made = read_json(corpus / "corpus.json")
    return (made["source"], made["settings"]) == (absolute_source(source), corpus_settings(asked))


def _stopped(corpus: Path, progress: PrepareDisplay, number: int) -> str:
    """What there is to say where a signal ended the work on `corpus`."""
    from gpt_kit.data import is_corpus
    from gpt_kit.data.unfinished import kept_bytes
    from gpt_kit.runtime import stop_cause

    progress.close()
    said = f"stopped by {stop_cause(number)}"
    if is_corpus(corpus):
        return f"{said}; {corpus} is whole"
    kept = kept_bytes(corpus)
    if kept and not progress.size:  # of work that this call has not taken up yet
        return f"{said} before anything was done"
    said += f" while {progress.activity}" + (f", {progress.size} done" if progress.size else "")
    if kept:
        return f"{said}; {kept / 1e6:,.1f} MB of the text are kept, and the same command goes on there"
    return f"{said}; nothing is kept of it, so the same command begins anew"


def print_read(read: dict[str, Any]) -> None:
    """What did not come in as it was; nothing is dropped in silence."""
    from gpt_kit.cli.display import console

    told = {
        "left out": read["skipped"],
        "lines left out": read["skipped_lines"],
        "repaired": read["repaired"],
        "made plain": read["normalised"],
    }
    if read["empty"]:
        told["left out"] = {"empty": read["empty"], **told["left out"]}
    for what, counts in told.items():
        if counts:
            console.print(f"  {what}: " + ", ".join(f"{count:,} {kind}" for kind, count in counts.items()))


def _next_command(out: Path, tokens: int) -> str:
    """A training that works with this corpus: where the text is shorter than gpt2-small's context, the context is shortened."""
    if tokens < 2:
        return "give it more text: there is nothing to train on"
    command = f"gpt-kit train --data {shlex.quote(str(out))} --model gpt2-small --out runs/NAME"
    if tokens > create_model_config("gpt2-small").max_position_embeddings:
        return command
    return f"{command} --model.max-position-embeddings {1 << (tokens - 1).bit_length() - 1}"  # a power of two, and one token after it
