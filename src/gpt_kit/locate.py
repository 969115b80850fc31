"""MODEL, as a person writes it -> the folder that holds it.

MODEL is a run folder or its `checkpoints` (the best checkpoint), a checkpoint folder, a Hugging Face folder, a folder of the
original GPT-1 or GPT-2 release, or a name on the Hugging Face hub.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from gpt_kit.errors import CheckpointError, DataError
from gpt_kit.files import read_json

ADAPTER_CONFIG = "adapter_config.json"
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model"]
HUB_TIMEOUT_SECONDS = 10


def locate_model(model: str | Path) -> Path:
    """The folder that MODEL names. Downloads from the hub only what is not a folder here.

    Raises: CheckpointError when there is nothing of that name, or the hub is needed and cannot be reached.
    """
    path = Path(model).expanduser()
    if run := run_of(path):
        return best_checkpoint(run)
    if path.is_dir():
        return path
    if path.exists():
        raise CheckpointError(f"{path} is a file; a model is a folder (a run, a checkpoint, or a Hugging Face folder)")
    looks_local = str(model).startswith((".", "/", "~")) or str(model).count("/") > 1 or (path.parent.is_dir() and len(path.parts) > 1)
    if looks_local:
        hint = _similar_folder(path) or ". Check the path (runs usually lie in runs/NAME)"
        raise CheckpointError(f"{path}: there is no such folder, so no model to read{hint}")
    return _download(str(model))


def base_of_adapter(folder: Path) -> Path | None:
    """The folder of the model that a LoRA adapter is added to; None where `folder` holds no adapter.

    That is RUN/base beside RUN/checkpoints, where the run wrote its own, wherever it was moved; else what adapter_config.json
    names: a path, also from the folder itself, or a name on the hub. Raises: CheckpointError where it is not there.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        return None
    try:
        content = read_json(folder / ADAPTER_CONFIG)
    except DataError as error:
        raise CheckpointError(f"{error}. Save the adapter again") from None
    name = content.get("base_model_name_or_path") if isinstance(content, dict) else None
    if not isinstance(name, str) or not name:
        raise CheckpointError(
            f"{folder / ADAPTER_CONFIG}: base_model_name_or_path is {name!r}; expected the folder of the base, or its name"
        )
    own = folder.absolute().parent.parent / "base"
    if folder.absolute().parent.name == "checkpoints" and own.is_dir():
        return own
    try:
        base = locate_model(folder / name if (folder / name).is_dir() else name)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: the base of this adapter is not there ({error}). It is named in {ADAPTER_CONFIG}") from None
    if (base / ADAPTER_CONFIG).is_file():
        raise CheckpointError(f"{folder}: its base {base} is an adapter too. Merge that first: gpt-kit merge {base} FOLDER")
    return base


def run_of(path: Path) -> Path | None:
    """The run that `path` is, or whose `checkpoints` folder it is; None for anything else."""
    if (path / "config.json").is_file():  # a model as it lies there
        return None
    if (path / "checkpoints").is_dir() or (path / "config.toml").is_file():
        return path
    return path.parent if path.name == "checkpoints" and path.is_dir() else None


def best_checkpoint(run: Path) -> Path:
    """The checkpoint that a run's `best` names, or else its `last`, or else the newest. Raises: CheckpointError when it has none."""
    if folder := pointed_to(run, "best") or pointed_to(run, "last") or next(iter(step_folders(run)), None):
        return folder
    raise CheckpointError(f"{run}: this run has no finished checkpoint yet. Go on with its command, --out {run} --resume auto")


def pointed_to(run: Path, pointer: str) -> Path | None:
    """The checkpoint folder that `best` or `last` names; None where the pointer is missing, damaged or names nothing that is there."""
    file = run / "checkpoints" / pointer
    name = file.read_text(encoding="utf-8", errors="replace").strip() if file.is_file() else ""
    folder = run / "checkpoints" / name
    return folder if folder in step_folders(run) else None


def step_folders(run: Path) -> list[Path]:
    """The checkpoint folders of a run, newest first: `step-` and a number. Whatever else lies beside them is somebody's own."""
    folders = [folder for folder in (run / "checkpoints").glob("step-*") if re.fullmatch(r"step-\d+", folder.name) and folder.is_dir()]
    return sorted(folders, key=lambda folder: int(folder.name.removeprefix("step-")), reverse=True)


def _download(name: str) -> Path:
    missing = f"{name}: there is no such folder here{_similar_folder(Path(name))}"
    try:
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
    except ImportError:
        raise CheckpointError(
            f"{missing}; and to fetch it by name from the Hugging Face hub, "
            "the package 'huggingface_hub' is needed: pip install 'gpt-kit[hub]'"
        ) from None
    problem = ""
    try:
        HfApi().model_info(name, timeout=HUB_TIMEOUT_SECONDS)  # on a silent network, snapshot_download itself would wait for ever
    except HFValidationError:
        raise CheckpointError(f"{missing}, and a model on the Hugging Face hub cannot be called so") from None
    except RepositoryNotFoundError:
        problem = "the Hugging Face hub shows no model of that name"
    except Exception as error:  # the errors of its HTTP library, which is another one from release to release
        problem = f"the Hugging Face hub cannot be reached ({_first_line(error)})"
    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES, local_files_only=bool(problem)))  # what was fetched before will do
    except OSError as error:
        raise CheckpointError(f"{missing}, and {problem or f'the Hugging Face hub does not give it ({_first_line(error)})'}") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].removesuffix(".")


def _similar_folder(path: Path) -> str:
    """`" (did you mean …?)"` for a folder of nearly that name beside `path` or among the runs, or an empty string."""
    folders = {folder.name: folder for parent in (Path("runs"), path.parent) for folder in parent.glob("*/")}
    close = difflib.get_close_matches(path.name, folders, n=1, cutoff=0.7)
    return f" (did you mean '{folders[close[0]]}'?)" if close else ""
