"""CRC-32C: the published check values, and the fast path against the slow one."""

import numpy as np
import pytest

from gpt_kit.weights import crc32c as module
from gpt_kit.weights.crc32c import crc32c, unmask


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E), (b"", 0)],
)
def test_the_check_values_of_rfc_3720(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected


@pytest.mark.parametrize("extra", [0, 1, 4 * module.LANES - 1])
def test_many_lanes_give_what_one_byte_at_a_time_gives(extra: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the bytes do not fill the lanes. One flipped bit must show: the control."""
    data = np.random.default_rng(5).integers(0, 256, module.SMALL + extra, dtype=np.uint8)
    fast = crc32c(data)
    data[1000] ^= 4
    assert crc32c(data) != fast
    data[1000] ^= 4
    monkeypatch.setattr(module, "SMALL", 1 << 40)
    assert crc32c(data) == fast


def test_unmasking_undoes_the_masking_of_leveldb() -> None:
    """mask(crc) = rotate right by 15, add 0xa282ead8 (leveldb util/crc32c.h)."""
    crc = 0xE3069283
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    assert masked != crc
    assert unmask(masked) == crc
