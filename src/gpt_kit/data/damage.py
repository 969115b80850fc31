"""Damaged text: what counts as damage, how it is told, and what of it can be repaired.

A damaged line must neither stop a tokenization of two days nor vanish without being counted. So whoever finds damage hands it on
as a value, with its place; whoever reads decides by a policy: stop (`error`), leave the line or record out (`skip`), or repair
what can be repaired and leave out the rest (`replace`). Empty records, byte order marks and "\\r\\n" are no damage.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from gpt_kit.errors import DataError

BAD_UTF8, NUL, SURROGATE = "bad UTF-8", "NUL", "lone surrogate"
NOT_JSON, KEY_MISSING, NOT_A_STRING, LONG_LINE, LONG_RUN = "not JSON", "key missing", "not a string", "long line", "long run"
LONGEST_LINE = 64_000_000
"""Bytes of a line; of a longer one no more than this is ever held."""
LONGEST_RUN = 100_000
"""Equal characters in a row: no text has more, and byte-pair encoders have been quadratic in them."""
REPLACEMENT = "\ufffd"


class Damage(DataError):
    """Damage and its place. A value as long as reading goes on, an error for those who stop at it."""

    def __init__(self, kind: str, message: str, *, repaired: bool = False, in_document: bool = False) -> None:
        super().__init__(message)
        self.kind, self.repaired = kind, repaired
        self.in_document = in_document
        """It concerns a line of a document that goes on, not a whole record."""


def sound_text(data: bytes) -> str | None:
    """`data` as text; None where something is wrong with it and somebody has to look closer. Nearly all of a corpus passes here."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return None if 0 in data or _long_run(text) else text


def is_sound(text: str) -> bool:
    """Whether nothing is wrong with a record's text."""
    try:
        return (text.isascii() or bool(text.encode())) and "\0" not in text and not _long_run(text)
    except UnicodeEncodeError:
        return False


def decode(data: bytes, name: str, line: int, offset: int) -> str | Damage:
    """`data`, which begins at `line` and byte `offset` of its file, as text; or the place of the byte that is none."""
    try:
        text = data.decode()
        kind, fault, problem = NUL, data.find(0), "which no text contains"
    except UnicodeDecodeError as error:
        text, kind, fault, problem = "", BAD_UTF8, error.start, "which is not UTF-8"
    if fault < 0:
        return text
    line += data.count(b"\n", 0, fault)
    return Damage(
        kind,
        f"{name}:{line}: byte {offset + fault} of the file is 0x{data[fault]:02x}, {problem}. "
        "Is this a text file? If it is one in another encoding, convert it: iconv -f ENCODING -t UTF-8",
    )


def repaired_bytes(data: bytes) -> str:
    """`data` as text, with U+FFFD for what is none."""
    return data.decode(errors="replace").replace("\0", REPLACEMENT)


def decoded_lines(data: bytes, name: str, line: int, offset: int, *, replace: bool) -> Generator[Damage, None, str]:
    """The lines of a piece of text that are none, and what is left of it: without those lines, or with them repaired."""
    text = decode(data, name, line, offset)
    if isinstance(text, str):
        return text
    kept = []
    for number, row in enumerate(_lines(data)):
        found = decode(row, name, line + number, offset)
        if isinstance(found, Damage):
            found.repaired, found.in_document = replace, True
            yield found
            found = repaired_bytes(row) if replace else ""
        kept.append(found)
        offset += len(row)
    return "".join(kept)


def without_long_runs(
    text: str, place: str, line: int, run: str, run_length: int, *, replace: bool
) -> Generator[Damage, None, tuple[str, str, int]]:
    """The runs in a piece of text that goes on behind `run_length` times `run`, and what is left of it, with the run it ends in.

    A run of more than LONGEST_RUN is told where it becomes that, once; its length then counts as LONGEST_RUN + 1.
    """
    ending = text[-1:]
    at_end = len(text) - len(text.rstrip(ending)) if ending else 0
    going_on = len(text) - len(text.lstrip(run)) if run else 0
    if at_end == len(text) and going_on:
        at_end += run_length
    if going_on and run_length + going_on > LONGEST_RUN:
        if run_length <= LONGEST_RUN:
            yield _run_damage(f"{place}{line}", run, run_length + going_on, replace)
        stays_whole = replace or run == "\n"  # empty lines alone make no line worth leaving out
        text = text[going_on - max(0, LONGEST_RUN - run_length) if stays_whole else (text.find("\n") + 1) or len(text) :]
    while found := _long_run(text):
        start, end = found
        yield _run_damage(f"{place}{line + text.count(chr(10), 0, start)}", text[start], end - start, replace)
        if replace or text[start] == "\n":
            text = text[: start + LONGEST_RUN] + text[end:]
        else:
            text = text[: text.rfind("\n", 0, start) + 1] + text[(text.find("\n", end - 1) + 1) or len(text) :]
    return (text, ending, min(at_end, LONGEST_RUN + 1)) if ending else (text, run, run_length)


def clean_string(text: str, where: str, *, replace: bool) -> Iterator[str | Damage]:
    """The damage in a record's text, and the text at last, unless the damage stands and is not to be repaired."""
    faults: list[Damage] = []
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError as error:
        message = f"{where}: character {error.start} is {text[error.start]!r}, half of a surrogate pair, which is no text"
        faults.append(Damage(SURROGATE, message, repaired=replace))
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if "\0" in text:
        faults.append(Damage(NUL, f"{where}: character {text.index(chr(0))} is NUL, which no text contains", repaired=replace))
        text = text.replace("\0", REPLACEMENT)
    while run := _long_run(text):
        faults.append(_run_damage(where, text[run[0]], run[1] - run[0], replace, in_document=False))
        text = text[: run[0] + LONGEST_RUN] + text[run[1] :]
    yield from faults if replace else faults[:1]  # a record is left out once, whatever it suffers from
    if replace or not faults:
        yield text


def long_line(name: str, line: int, *, repaired: bool = False, in_document: bool = False) -> Damage:
    """Of a line with more than LONGEST_LINE bytes."""
    told = f"{name}:{line}: this line is longer than {LONGEST_LINE:,} bytes. Cut it, or leave it out: --on-damaged skip"
    return Damage(LONG_LINE, told, repaired=repaired, in_document=in_document)


def _run_damage(where: str, character: str, length: int, repaired: bool, *, in_document: bool = True) -> Damage:
    told = f"{where}: {character!r} stands {length:,} times in a row; text has at most {LONGEST_RUN:,} equal characters in a row"
    return Damage(LONG_RUN, told, repaired=repaired, in_document=in_document)


def _lines(data: bytes) -> list[bytes]:
    r"""Lines by "\n" alone: `splitlines` would cut at a lone "\r" too."""
    rows = [row + b"\n" for row in data.split(b"\n")]
    rows[-1] = rows[-1][:-1]
    return rows


def _long_run(text: str) -> tuple[int, int] | None:
    """(start, end) of the first run of more than LONGEST_RUN equal characters.

    Such a run holds two probes half that length apart, so sound text costs one comparison per 50,000 characters.
    """
    step = LONGEST_RUN // 2
    for probe in range(0, len(text) - step, step):
        character = text[probe]
        if character == text[probe + step] and text.count(character, probe, probe + step) == step:
            start = len(text[:probe].rstrip(character))
            end = len(text) - len(text[probe:].lstrip(character))
            if end - start > LONGEST_RUN:
                return start, end
    return None
