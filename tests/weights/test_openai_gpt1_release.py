"""GPT-1's numpy files, made here in the layout of the release: one flat vector in ten pieces, and a list of shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gpt_kit.config import create_model_config
from gpt_kit.errors import CheckpointError
from gpt_kit.weights import load_weights, parameter_shapes

V, P, C, L = 17, 5, 128, 2  # H = 2: heads of 64
Named = list[tuple[str, NDArray[np.float32]]]


def parameters() -> Named:
    """Names and values in the order of the release. The names are those of parameters_names.json."""
    shapes: list[tuple[str, tuple[int, ...]]] = [("positions", (P, C)), ("tokens", (V, C))]
    for i in range(L):
        h = f"model/h{i}"
        shapes += [
            (f"{h}/attn/c_attn/w:0", (1, C, 3 * C)),
            (f"{h}/attn/c_attn/b:0", (3 * C,)),
            (f"{h}/attn/c_proj/w:0", (1, C, C)),
            (f"{h}/attn/c_proj/b:0", (C,)),
            (f"{h}/ln_1/g:0", (C,)),
            (f"{h}/ln_1/b:0", (C,)),
            (f"{h}/mlp/c_fc/w:0", (1, C, 4 * C)),
            (f"{h}/mlp/c_fc/b:0", (4 * C,)),
            (f"{h}/mlp/c_proj/w:0", (1, 4 * C, C)),
            (f"{h}/mlp/c_proj/b:0", (C,)),
            (f"{h}/ln_2/g:0", (C,)),
            (f"{h}/ln_2/b:0", (C,)),
        ]
    random = np.random.default_rng(1)
    return [(name, random.standard_normal(shape).astype(np.float32)) for name, shape in shapes]


def write_release(folder: Path, named: Named, num_pieces: int = 10) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "params_shapes.json").write_text(json.dumps([value.shape for _, value in named]))
    flat = np.concatenate([value.ravel() for _, value in named])
    for n, piece in enumerate(np.array_split(flat, num_pieces)):
        np.save(folder / f"params_{n}.npy", piece)


def write_names(folder: Path, named: Named) -> None:
    """As Hugging Face distributed it: one name for both embeddings, and the classifier that the release leaves out."""
    names = ["model/we:0", *(name for name, _ in named[2:]), "model/clf/w:0", "model/clf/b:0"]
    (folder / "parameters_names.json").write_text(json.dumps(names))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_release(tmp_path, parameters())
    return tmp_path


def test_the_release_is_cut_and_named_right(folder: Path) -> None:
    weights = load_weights(folder)
    assert weights.config == create_model_config("openai-gpt", vocab_size=V, max_position_embeddings=P, n_embd=C, n_head=2, n_layer=L)
    assert {name: tuple(tensor.shape) for name, tensor in weights.tensors.items()} == parameter_shapes(weights.config)
    values = {name: torch.from_numpy(value) for name, value in parameters()}
    expected = {"position_embedding.weight": values["positions"], "token_embedding.weight": values["tokens"]}
    for i in range(L):
        for ours, theirs in (
            ("attention.qkv", "attn/c_attn"),
            ("attention.projection", "attn/c_proj"),
            ("feed_forward.expand", "mlp/c_fc"),
            ("feed_forward.contract", "mlp/c_proj"),
        ):
            expected[f"blocks.{i}.{ours}.weight"] = values[f"model/h{i}/{theirs}/w:0"][0].T
            expected[f"blocks.{i}.{ours}.bias"] = values[f"model/h{i}/{theirs}/b:0"]
        for ours, theirs in (("attention_norm", "ln_1"), ("feed_forward_norm", "ln_2")):
            expected[f"blocks.{i}.{ours}.weight"] = values[f"model/h{i}/{theirs}/g:0"]
            expected[f"blocks.{i}.{ours}.bias"] = values[f"model/h{i}/{theirs}/b:0"]
    assert expected.keys() == weights.tensors.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(tensor, weights.tensors[name])] == []


def test_names_count_more_than_the_order(folder: Path) -> None:
    """The parameters of the blocks are shuffled and only the names say which is which: the same model comes out."""
    expected = load_weights(folder).tensors
    named = parameters()
    shuffled = named[:2] + [named[2 + i] for i in np.random.default_rng(0).permutation(len(named) - 2)]
    write_release(folder, shuffled)
    with pytest.raises(CheckpointError, match="has shape"):
        load_weights(folder)  # the control: by the order alone it is another model
    write_names(folder, shuffled)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_weights(folder).tensors.items())


def test_names_and_shapes_of_different_models_are_refused(folder: Path) -> None:
    write_names(folder, parameters()[:-1])
    with pytest.raises(CheckpointError, match=r"names 25 parameters, but params_shapes\.json has 26"):
        load_weights(folder)


def test_a_missing_piece_is_noticed(folder: Path) -> None:
    """A piece missing at the end, in the middle, and all of them."""
    (folder / "params_9.npy").unlink()
    with pytest.raises(CheckpointError, match=r"hold [\d,]+ numbers, but params_shapes.json asks for [\d,]+"):
        load_weights(folder)
    for n in range(9):
        (folder / f"params_{n}.npy").unlink()
    with pytest.raises(CheckpointError, match=r"but not params_0\.npy"):
        load_weights(folder)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([{"a": 1}], dtype=object), "not a whole array of numbers"),
        (np.zeros(10, dtype=np.float64), "float64"),
        (np.zeros((2, 5), dtype=np.float32), r"shape \(2, 5\)"),
    ],
)
def test_a_piece_that_is_not_a_row_of_float32_is_refused(array: Any, message: str, folder: Path) -> None:
    """The first is a pickle inside a .npy file, which would run code if it were opened."""
    np.save(folder / "params_3.npy", array, allow_pickle=True)
    with pytest.raises(CheckpointError, match=message):
        load_weights(folder)


def test_a_cut_piece_is_refused(folder: Path) -> None:
    file = folder / "params_3.npy"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"params_3\.npy: not a whole array"):
        load_weights(folder)


def test_a_width_that_says_nothing_about_heads_is_refused(tmp_path: Path) -> None:
    """96 channels are not a whole number of heads of 64, and no file says how many heads there are."""
    named = [(name, value[..., : value.shape[-1] * 3 // 4]) for name, value in parameters()]
    write_release(tmp_path, named)
    with pytest.raises(CheckpointError, match="width 96 is not a multiple of 64"):
        load_weights(tmp_path)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([[5, 128], [17, 128], [128]], "lists 3 parameters"),
        ([[5, 0]], "expected a list of shapes"),
        ({"a": 1}, "expected a list"),
        ([], "lists 0 parameters"),
    ],
)
def test_a_strange_list_of_shapes_is_refused(shapes: Any, message: str, folder: Path) -> None:
    (folder / "params_shapes.json").write_text(json.dumps(shapes))
    with pytest.raises(CheckpointError, match=message):
        load_weights(folder)
