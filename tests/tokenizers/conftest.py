"""What the tokenizer tests share: hard texts, one small corpus, and the real data where it exists."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from gpt_kit.tokenizers import Tokenizer, load_tokenizer, train_tokenizer

HARD_TEXTS = [
    "",
    " ",
    "Hello, world!",
    "don't I'll we've THEY'RE it's 'tis ''s' y'all'd've",
    "a  b   c\t\td \n e\n\n\nf \r\n g\r\rh",
    "trailing spaces   ",
    "   leading",
    " " * 500 + "x" + "\n" * 300 + " y" + "\u2003" * 40 + "z\xa0\u3000",
    "\x00\x01\x1c\x1f\x7f\x85 NUL and friends \x00",
    "\ufeffBOM at the start",
    "👩‍👩‍👧‍👦 👍🏽 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🇫🇷",
    "e\u0301 \u0915\u094d\u0937\u093f Z\u0351\u036b\u0343a\u0334l\u0322go",
    "\U00020000\U0002a6df 漢字かな交じり文 한국어 ไทย עברית العربية",
    "\ue000\U000f0000\U0010fffd\U000e0041\U000e007f\ufdd0\uffff",
    "<|endoftext|> in <|endoftext|><|user|> content <unk> </w> <bos>",
    "0123456789 3.14159 ½ ² Ⅷ ٣",
    "def f(x):\n    return {'a': [1, 2]}  # ok\n",
    "ĠĊ spelled in the byte alphabet ▁",
]
CORPUS = [
    "the quick brown fox jumps over the lazy dog. " * 20,
    "It's a test, isn't it? We've tested, they'll test.\n\n" * 20,
    "  indented\n\tand  spaced   out\n" * 20,
    "日本語のテキストと emoji 👍🏽 and naïve café. " * 10,
]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    folder = Path(os.environ.get("GPT_KIT_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist; GPT_KIT_TEST_DATA can name another folder")
    return folder


@pytest.fixture(scope="session")
def hard_texts() -> list[str]:
    return HARD_TEXTS


@pytest.fixture(scope="session")
def corpus() -> list[str]:
    return CORPUS


@pytest.fixture(scope="session")
def gpt2() -> Tokenizer:
    return load_tokenizer("gpt2")


@pytest.fixture(scope="session")
def gpt1(data_folder: Path) -> Tokenizer:
    return load_tokenizer(data_folder / "gpt1-tokenizer")


@pytest.fixture(scope="session")
def gpt1_published(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-1's release files under the names that transformers expects."""
    folder = tmp_path_factory.mktemp("gpt1-published")
    shutil.copy(data_folder / "gpt1-tokenizer" / "encoder_bpe_40000.json", folder / "vocab.json")
    shutil.copy(data_folder / "gpt1-tokenizer" / "vocab_40000.bpe", folder / "merges.txt")
    return folder


@pytest.fixture(scope="session")
def bpe() -> Tokenizer:
    return train_tokenizer("bpe", CORPUS, 350)
