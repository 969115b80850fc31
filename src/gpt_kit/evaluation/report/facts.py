"""What the page and the Markdown table both say of a run, in words: one place for each wording."""

from __future__ import annotations

from gpt_kit.evaluation.report.runs import RunFacts

SUMMARY = ("run", "what", "parameters", "tokenizer", "text", "tokens seen", "val loss", "bits/byte", "time", "status")
UNITS = {"classification": "text"}  # what a loss is counted by, where not by token
NUMERIC = ("parameters", "tokens seen", "val loss", "bits/byte", "time")


def summary(run: RunFacts) -> dict[str, str]:
    """One row: a word or figure for every column of SUMMARY."""
    bits = run.best_bits_per_byte
    return {
        "run": run.name,
        "what": run.kind,
        "parameters": f"{run.parameters:,}" if run.parameters else "",
        "tokenizer": run.tokenizer.removesuffix(" entries"),
        "text": run.text.rpartition("/")[2],
        "tokens seen": f"{run.tokens_seen:,}" if run.records else "",
        "val loss": f"{run.best[0]:.4f}" if run.best else "",
        "bits/byte": f"{bits:.3f}" if bits else "",
        "time": duration(run.seconds) if run.seconds else "",
        "status": run.status,
    }


def details(run: RunFacts) -> dict[str, str]:
    """What stands in a run's own section, without what is not known."""
    training, environment, corpus = run.config.get("training", {}), run.environment, run.corpus
    shape = ", ".join(f"{name} {number:,}" for name, number in run.shape.items())
    verbs = {"train": "learn from", "val": "validate"}
    sides = [
        f"{corpus[side]['tokens']:,} tokens in {corpus[side]['bytes']:,} bytes to {verb}" for side, verb in verbs.items() if side in corpus
    ]
    settings = ("optimizer", "learning_rate", "schedule", "batch_size", "precision", "seed")
    machine = ("torch", "system", "cpu_capability", "accelerators", "processes")
    facts = {
        "model": ", ".join(filter(None, (_parameters(run), shape))),
        "base": run.base,
        "tokenizer": run.tokenizer,
        "text": "; ".join(filter(None, [run.text, *sides])),
        "training": f"{run.step:,} steps, {run.tokens_seen:,} tokens" + _listed(training, settings) if run.records else "",
        "speed": f"{run.tokens_seen / run.seconds:,.0f} tokens per second over {duration(run.seconds)}" if run.seconds else "",
        "best": f"validation loss {run.best[0]:.4f} nats per {UNITS.get(run.kind, 'token')} at step {run.best[1]:,}" if run.best else "",
        "machine": f"gpt-kit {environment.get('gpt_kit', '?')}" + _listed(environment, machine) if environment else "",
        "started": str(environment.get("started_at", "")),
        "checkpoint": run.checkpoint.name if run.checkpoint and run.checkpoint != run.folder else "",
    }
    hashes = {f"SHA-256 of {name}": digest for name, digest in [*([run.weights] if run.weights else []), *run.data_hashes.items()]}
    return {name: fact for name, fact in {**facts, **hashes}.items() if fact}


def _parameters(run: RunFacts) -> str:
    if not run.parameters:
        return ""
    adapter = bool(run.weights and run.weights[0].startswith("adapter"))
    return f"{run.parameters:,} parameters" + " in the adapter, beside those of its base" * adapter


def duration(seconds: float) -> str:
    """`3:21 min`, or `2:05 h` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d} h"


def _listed(section: dict[str, object], names: tuple[str, ...]) -> str:
    return "".join(f", {name.replace('_', ' ')} {section[name]}" for name in names if section.get(name) not in (None, [], ""))
