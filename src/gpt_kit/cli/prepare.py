"""`gpt-kit prepare`: text -> a corpus of tokens on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from gpt_kit.cli.arguments import parse
from gpt_kit.config import CorpusConfig


@dataclass(frozen=True, kw_only=True)
class PrepareArguments:
    """Cut text into tokens, set validation text aside, and write both as a corpus."""

    source: tyro.conf.Positional[str]
    """A file (.txt .md .jsonl .json .parquet, also .gz .zst), a folder, a glob, '-' for stdin, or 'python-docs'."""
    out: Path
    """The corpus's folder; it is written whole or not at all."""
    corpus: tyro.conf.OmitArgPrefixes[CorpusConfig] = field(default_factory=CorpusConfig)


def main(words: Sequence[str]) -> None:
    """Prepare the corpus and print what it holds."""
    arguments = parse(PrepareArguments, "prepare", words)

    from gpt_kit.cli.assemble import CONTIGUOUS_WARNING
    from gpt_kit.cli.display import PrepareDisplay, console
    from gpt_kit.data import is_corpus, prepare_corpus
    from gpt_kit.errors import DataError

    if is_corpus(arguments.out):
        raise DataError(f"{arguments.out}: already holds a corpus. Choose another --out, or delete that folder first")
    if arguments.out.exists() and any(arguments.out.iterdir()):
        raise DataError(f"{arguments.out}: this folder is not empty. Choose another --out")
    with PrepareDisplay() as progress:
        corpus = prepare_corpus(arguments.source, arguments.out, arguments.corpus, progress)
    console.print(f"{arguments.out}: tokenizer {corpus.tokenizer.name}, {corpus.tokenizer.vocab_size:,} entries")
    for name in ("train", "val"):
        part = corpus.info[name]
        per_token = f", {part['bytes'] / part['tokens']:.2f} bytes per token" if part["tokens"] else ""
        console.print(f"  {name:<6}{part['tokens']:>14,} tokens  {part['documents']:>9,} documents  {part['bytes']:>14,} bytes{per_token}")
    if corpus.info["duplicates"]:
        console.print(f"  {corpus.info['duplicates']:,} documents occur more than once; equal ones stand on the same side")
    if corpus.info["split"] == "contiguous" and part["tokens"]:
        console.print(f"[yellow]note:[/] {CONTIGUOUS_WARNING}")
    console.print(f"next    gpt-kit train --data {arguments.out} --model gpt2-small --out runs/NAME")
