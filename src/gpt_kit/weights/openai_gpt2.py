"""GPT-2 as OpenAI released it: `hparams.json` and a TensorFlow checkpoint (`model.ckpt.*`).

The file `checkpoint` names the newest prefix; folders of a fine-tuned model keep several. Only variables under `model/` are the
network. Ignored is what training leaves beside it, by this rule: a variable outside `model/` (global_step, beta1_power), and
one whose name goes on from that of a parameter (model/wte/Adam: an optimizer slot). Anything else under `model/` is an error.
Source: github.com/openai/gpt-2, src/model.py.
"""

from __future__ import annotations

import re
from pathlib import Path

from gpt_kit.config import ModelConfig, create_model_config
from gpt_kit.errors import CheckpointError, ConfigError
from gpt_kit.weights.names import from_published, published_shapes, without_kernel_axis
from gpt_kit.weights.parameters import Weights, checked, parameter_shapes, read_model_json
from gpt_kit.weights.tensorflow import open_bundle

HPARAMS = {
    "n_vocab": "vocab_size",
    "n_ctx": "max_position_embeddings",
    "n_embd": "n_embd",
    "n_head": "n_head",
    "n_layer": "n_layer",
}


def load_openai_gpt2(folder: Path) -> Weights:
    """Read OpenAI's folder. Raises: CheckpointError when a file or variable is missing, damaged, or not of the stated shape."""
    config = _read_hparams(folder / "hparams.json")
    shapes = parameter_shapes(config)
    expected = published_shapes(shapes, "openai")
    bundle = open_bundle(folder / _checkpoint_name(folder))
    wanted = [name for name in bundle.variables if _is_network(name, set(expected))]
    found = {name: without_kernel_axis(bundle.read(name)) for name in wanted}
    return Weights(config, from_published(checked(found, expected, bundle.prefix), shapes, "openai"))


def _is_network(name: str, parameters: set[str]) -> bool:
    parts = name.split("/")
    is_slot = any("/".join(parts[:count]) in parameters for count in range(1, len(parts)))
    return parts[0] == "model" and not is_slot


def _read_hparams(file: Path) -> ModelConfig:
    hparams = read_model_json(file)
    absent = [key for key in HPARAMS if not isinstance(hparams, dict) or key not in hparams]
    if absent:
        raise CheckpointError(f"{file}: {', '.join(absent)} missing. Take the hparams.json that was released with these weights")
    try:
        return create_model_config("gpt2", **{field: hparams[key] for key, field in HPARAMS.items()})
    except ConfigError as error:
        raise CheckpointError(f"{file}: {error}") from None


def _checkpoint_name(folder: Path) -> str:
    """The prefix to read: the one that the file `checkpoint` names, or the only one there is."""
    pointer = folder / "checkpoint"
    if pointer.is_file():
        named = re.search(r'^model_checkpoint_path: "(.*)"', pointer.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        name = re.split(r"[/\\]", named[1])[-1] if named else ""  # it may be an absolute path of another machine
        if name and (folder / f"{name}.index").is_file():
            return name
    names = sorted(file.name.removesuffix(".index") for file in folder.glob("*.index"))
    if len(names) == 1:
        return names[0]
    raise CheckpointError(
        f"{folder}: hparams.json is there, but which checkpoint to read is unclear: "
        f"the file 'checkpoint' names none that is here, and *.index are {', '.join(names) or 'none'}. Download the missing files"
    )
