"""The bytes of single tokens, of which some are parts of characters, make up the text's bytes; GPT-1's tokens have none of their own."""

from __future__ import annotations

import pytest
import tokenizers

from gpt_kit.errors import TokenizerError
from gpt_kit.tokenizers import Tokenizer, chat_tokenizer, load_tokenizer
from gpt_kit.tokenizers.huggingface import HuggingFaceTokenizer
from gpt_kit.tokenizers.load import as_tokenizer
from gpt_kit.tokenizers.simple import ByteTokenizer, CharacterTokenizer

TEXT = "Ünder 漢字 \U0001f642 the cat's \x00\n\n  tail"


def other_byte_level() -> Tokenizer:
    """Byte-level BPE that cuts text in its own way, so that it runs through the `tokenizers` library."""
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.Digits(), tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    library.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    library.train_from_iterator([TEXT * 9], trainer)
    return as_tokenizer(library)


KINDS = {
    "gpt2": lambda: load_tokenizer("gpt2"),
    "byte": ByteTokenizer,
    "char": lambda: CharacterTokenizer(sorted(set(TEXT))),
    "huggingface": other_byte_level,
}


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_of_the_tokens_make_up_those_of_the_text(kind: str) -> None:
    tokenizer = chat_tokenizer(KINDS[kind]())
    assert isinstance(tokenizer, HuggingFaceTokenizer) == (kind == "huggingface")
    assert b"".join(tokenizer.token_bytes(token) for token in tokenizer.encode(TEXT)) == TEXT.encode()
    for name, token in tokenizer.special_tokens.items():
        assert tokenizer.token_bytes(token) == name.encode()
    for outside in (-1, tokenizer.vocab_size, 2**70):
        with pytest.raises(TokenizerError, match="is not in the vocabulary"):
            tokenizer.token_bytes(outside)


def test_a_token_whose_text_depends_on_its_neighbours_has_none() -> None:
    library = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    library.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    library.decoder = tokenizers.decoders.BPEDecoder(suffix="</w>")
    library.train_from_iterator(["a cat sat"] * 9, tokenizers.trainers.BpeTrainer(special_tokens=["<unk>"], end_of_word_suffix="</w>"))
    tokenizer = as_tokenizer(library)
    assert tokenizer.decode(tokenizer.encode("a cat")) == "a cat"
    assert [tokenizer.token_bytes(token) for token in tokenizer.encode("a cat")] == [None, None]
