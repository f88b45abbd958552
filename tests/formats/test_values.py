import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndvol.errors import SourceError
from ndvol.formats.values import (
    StoredRange,
    as_labels,
    rescale,
    settled_type,
    smallest_integer,
    volume_type,
)

U2, I2 = np.dtype(np.uint16), np.dtype(np.int16)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**62))
def test_smallest_integer_holds_both_ends_and_no_smaller_type_does(low, length):
    high = min(low + length, 2**63 - 1)
    info = np.iinfo(smallest_integer(low, high))
    assert info.min <= low <= high <= info.max
    for smaller in (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32):
        other = np.iinfo(smaller)
        if other.bits < info.bits:
            assert not (other.min <= low and high <= other.max)


def test_values_beyond_64_bits_are_refused():
    with pytest.raises(SourceError, match="no integer type"):
        smallest_integer(-1, 2**64)


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([StoredRange(U2, 0, 4095, 1, -1024)], "int16"),
        ([StoredRange(U2, 0, 4095)], "uint16"),
        ([StoredRange(I2, -32768, 32767, 1, -1024)], "int32"),
        ([StoredRange(U2, 0, 65535), StoredRange(I2, -32768, 32767)], "int32"),
        ([StoredRange(U2, 0, 4095, 0.5, 0)], "float32"),
        ([StoredRange(U2, 0, 4095, 1, 0), StoredRange(U2, 0, 4095, 2, 0)], "float32"),
        ([StoredRange(U2, 0, 4095, -1, 0)], "int16"),
    ],
)
def test_volume_type(ranges, expected):
    assert volume_type(ranges) == expected


def test_settled_type_narrows_what_fits_and_widens_what_does_not():
    declared = np.dtype(np.int32)
    assert settled_type(declared, [StoredRange(I2, -2000, 2405, 1, -1024)]) == np.int16
    assert settled_type(declared, [StoredRange(I2, -32000, 0, 1, -1024)]) == np.int32
    assert settled_type(U2, [StoredRange(I2, -3, 9)]) == np.int16


def test_rescale_never_wraps():
    stored = np.array([0, 65535], np.uint16)
    assert rescale(stored, 1.0, -1024.0, np.dtype(np.int32)).tolist() == [-1024, 64511]
    assert rescale(stored, -1.0, 0.0, np.dtype(np.int32)).tolist() == [0, -65535]


def test_labels_take_the_smallest_unsigned_type():
    assert as_labels(np.array([[0, 255]], np.int32), "a").dtype == np.uint8
    assert as_labels(np.array([[0, 256]], np.int16), "a").dtype == np.uint16
    found = as_labels(np.array([[0.0004, 2.9996]], np.float32), "a")
    assert (found.tolist(), found.dtype) == ([[0, 3]], np.uint8)


@pytest.mark.parametrize(
    ("values", "message"),
    [([[-1, 3]], "from -1 to 3"), ([[0.0, 1.5]], "1.5"), ([[0.0, np.nan]], "nan"), ([[0.0, np.inf]], "inf")],
)
def test_values_that_are_no_labels_are_refused(values, message):
    with pytest.raises(SourceError, match=message) as caught:
        as_labels(np.array(values), "the mask")
    assert caught.value.code == "label-values"
