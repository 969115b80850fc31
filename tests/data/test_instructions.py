"""Instruction batches: what is scored is decided by position, so that the end token is learned even where it is the padding."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from gpt_kit.data import InstructionDataset, create_instruction_collate_fn
from gpt_kit.errors import DataError
from gpt_kit.tokenizers import load_tokenizer

PAD, NOT = 50256, -100
RECORDS = [
    {"instruction": "Name a colour.", "input": "", "output": "Blue."},
    {"instruction": "Add.", "input": "2 and 3", "output": "2 and 3 make 5, which is a prime number."},
]


def alpaca(record) -> str:
    return f"### Instruction:\n{record['instruction']}" + (f"\n\n### Input:\n{record['input']}" if record["input"] else "")


def test_rows_are_shifted_closed_by_one_scored_end_token_and_masked_behind_it() -> None:
    inputs, targets = create_instruction_collate_fn()([[1, 2, 3, 4], [5, 6], [7]])
    assert inputs.tolist() == [[1, 2, 3, 4], [5, 6, PAD, PAD], [7, PAD, PAD, PAD]]
    assert targets.tolist() == [[2, 3, 4, PAD], [6, PAD, NOT, NOT], [PAD, NOT, NOT, NOT]]
    assert inputs.dtype == targets.dtype == torch.int64
    for row in targets.tolist():
        assert row.count(PAD) == 1


def test_the_padding_id_inside_a_text_is_scored_like_any_other() -> None:
    """By position, never by value: a text that contains the end token keeps every target, before and after it."""
    inputs, targets = create_instruction_collate_fn(pad_token_id=0)([[9, 0, 8, 0, 0, 7], [3, 0]])
    assert inputs.tolist() == [[9, 0, 8, 0, 0, 7], [3, 0, 0, 0, 0, 0]]
    assert targets.tolist() == [[0, 8, 0, 0, 7, 0], [0, 0, NOT, NOT, NOT, NOT]]


def test_the_mark_of_unscored_targets_can_be_chosen() -> None:
    _, targets = create_instruction_collate_fn(pad_token_id=0, ignore_index=-7)([[1, 2, 3], [4]])
    assert targets.tolist() == [[2, 3, 0], [0, -7, -7]]


@pytest.mark.parametrize(("max_length", "width"), [(None, 5), (9, 5), (5, 5), (4, 4), (2, 2), (1, 1)])
def test_a_cut_answer_does_not_teach_to_stop(max_length: int | None, width: int) -> None:
    """Rows of 5 and 2: inputs are at most max_length long; a row that was cut ends with its own next token, not the end token."""
    inputs, targets = create_instruction_collate_fn(max_length=max_length)([[1, 2, 3, 4, 5], [6, 7]])
    whole = [1, 2, 3, 4, 5, PAD]
    assert inputs.shape == targets.shape == (2, width)
    assert inputs[0].tolist() == whole[:width]
    assert targets[0].tolist() == whole[1 : width + 1]
    assert (PAD in targets[0].tolist()) == (width == 5)


def test_the_dataset_encodes_prompt_heading_and_answer() -> None:
    tokenizer = load_tokenizer("gpt2")
    dataset = InstructionDataset(RECORDS, tokenizer, alpaca)
    assert len(dataset) == 2
    assert tokenizer.decode(dataset[0]) == "### Instruction:\nName a colour.\n\n### Response:\nBlue."
    assert tokenizer.decode(dataset[1]).endswith("### Input:\n2 and 3\n\n### Response:\n2 and 3 make 5, which is a prime number.")


def test_a_loader_gives_batches_as_wide_as_their_longest_row() -> None:
    dataset = InstructionDataset(RECORDS, load_tokenizer("gpt2"), alpaca)
    loader = DataLoader(dataset, batch_size=2, collate_fn=create_instruction_collate_fn())
    inputs, targets = next(iter(loader))
    assert inputs.shape == targets.shape == (2, max(map(len, dataset)))
    assert [(row != NOT).sum().item() for row in targets] == [len(row) for row in dataset]


def test_a_record_that_spells_the_end_token_stays_text() -> None:
    dataset = InstructionDataset([{**RECORDS[0], "output": "<|endoftext|>"}], load_tokenizer("gpt2"), alpaca)
    assert PAD not in dataset[0]


def test_a_record_without_an_answer_is_named() -> None:
    with pytest.raises(DataError, match=r"record 1 has no 'output' \(its keys: instruction, input\)"):
        InstructionDataset([RECORDS[0], {"instruction": "x", "input": ""}], load_tokenizer("byte"), alpaca)


def test_the_real_records_all_become_rows(data_folder: Path) -> None:
    records = json.loads((data_folder / "instructions" / "instruction-data.json").read_text(encoding="utf-8"))
    tokenizer = load_tokenizer("gpt2")
    dataset = InstructionDataset(records, tokenizer, alpaca)
    assert len(dataset) == len(records) > 1000
    for i in (0, 500, len(records) - 1):
        assert tokenizer.decode(dataset[i]).endswith(f"### Response:\n{records[i]['output']}")


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([], "there are no records"),
        ([RECORDS[0], {**RECORDS[1], "output": None}], "record 1: its 'output' is None; expected the text"),
        ([RECORDS[0], RECORDS[1], "a text"], "record 2 is a str; expected a dictionary"),
        ({"data": RECORDS}, "record 0 is a str"),
    ],
    ids=str,
)
def test_records_that_cannot_teach_are_refused_by_number(records, said: str) -> None:
    with pytest.raises(DataError, match=said):
        InstructionDataset(records, load_tokenizer("byte"), lambda record: record["instruction"])


def test_a_batch_without_rows_and_a_length_of_zero_are_refused() -> None:
    with pytest.raises(DataError, match="a batch without rows"):
        create_instruction_collate_fn()([])
    with pytest.raises(DataError, match="max_length must be at least 1; got 0"):
        create_instruction_collate_fn(max_length=0)


@pytest.mark.parametrize("name", ["gpt2", "byte"])
def test_a_length_that_cuts_a_whole_answer_away_is_refused_by_record(name: str) -> None:
    """One token of the answer is enough; with one less, the row would teach the instruction alone."""
    tokenizer = load_tokenizer(name)
    dataset = InstructionDataset(RECORDS, tokenizer, alpaca)
    starts = [row.answer_start for row in dataset]
    for row, start, record in zip(dataset, starts, RECORDS, strict=True):
        assert tokenizer.decode(row[start:]) == record["output"]
    assert starts[0] < starts[1] <= len(dataset[1])
    _, targets = create_instruction_collate_fn(max_length=starts[1])(list(dataset))
    assert targets[1, -1] == dataset[1][starts[1]]
    with pytest.raises(DataError, match=rf"cuts the whole answer away from record 1: .* Make it at least {starts[1]}"):
        create_instruction_collate_fn(max_length=starts[1] - 1)(list(dataset))
    with pytest.raises(DataError, match="from record 1, 0:"):
        create_instruction_collate_fn(max_length=3)([dataset[1], dataset[0]])


def test_rows_remember_their_answer_in_worker_processes() -> None:
    (row,) = pickle.loads(pickle.dumps([InstructionDataset(RECORDS, load_tokenizer("byte"), alpaca)[1]]))
    assert (row.record, row.answer_start) == (1, InstructionDataset(RECORDS, load_tokenizer("byte"), alpaca)[1].answer_start)
