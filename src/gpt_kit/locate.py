"""MODEL, as a person writes it -> the folder that holds it.

MODEL is a run folder (its best checkpoint), a checkpoint folder, a Hugging Face folder, a folder of the original GPT-1 or
GPT-2 release, or a name on the Hugging Face hub.
"""

from __future__ import annotations

from pathlib import Path

from gpt_kit.errors import CheckpointError

HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model"]


def locate_model(model: str | Path) -> Path:
    """The folder that MODEL names. Downloads from the hub only what is not a folder here.

    Raises: CheckpointError when there is nothing of that name, or the hub is needed and cannot be reached.
    """
    path = Path(model).expanduser()
    if (path / "checkpoints").is_dir():
        return best_checkpoint(path)
    if path.is_dir():
        return path
    if path.exists():
        raise CheckpointError(f"{path} is a file; a model is a folder (a run, a checkpoint, or a Hugging Face folder)")
    looks_local = str(model).startswith((".", "/", "~")) or str(model).count("/") > 1 or (path.parent.is_dir() and len(path.parts) > 1)
    if looks_local:
        raise CheckpointError(f"{path}: there is no such folder, so no model to read. Check the path (runs usually lie in runs/NAME)")
    return _download(str(model))


def best_checkpoint(run: Path) -> Path:
    """The checkpoint that a run's `best` names, or else its `last`. Raises: CheckpointError when the run has saved none."""
    for pointer in ("best", "last"):
        file = run / "checkpoints" / pointer
        if file.is_file():
            folder = run / "checkpoints" / file.read_text(encoding="utf-8").strip()
            if folder.is_dir():
                return folder
    raise CheckpointError(f"{run}: this run has no finished checkpoint yet. Train on with: gpt-kit train --out {run} --resume auto")


def _download(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise CheckpointError(
            f"{name}: there is no such folder; and to fetch it by name from the Hugging Face hub, "
            "the package 'huggingface_hub' is needed: pip install 'gpt-kit[hub]'"
        ) from None
    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{name}: neither a folder here nor to be had from the Hugging Face hub ({reason})") from None
