"""Errors keep their message, code and facts across processes, and are the builtin that callers catch."""

from __future__ import annotations

import copy
import pickle

import pytest

from ndvol import errors
from ndvol.errors import NdvolError

BUILTINS = {
    errors.NdvolError: Exception,
    errors.WindowError: ValueError,
    errors.GridError: ValueError,
    errors.GeometryError: ValueError,
    errors.CategoryError: ValueError,
    errors.UnknownNameError: KeyError,
    errors.SourceError: ValueError,
    errors.StoreError: OSError,
    errors.DamageError: OSError,
    errors.UnsafeFileError: OSError,
    errors.StorageFullError: OSError,
    errors.CatalogError: ValueError,
    errors.SamplingError: LookupError,
    errors.OptionError: ValueError,
    errors.ImportFailedError: RuntimeError,
}
CLASSES = sorted(BUILTINS, key=lambda c: c.__name__)


def make(cls: type[NdvolError], **options: object) -> NdvolError:
    return cls(
        "the thing 'x' is odd", got=[1, 2], expected="one number", hint="look again", places=((3, 4),), **options
    )


def test_the_table_names_every_class() -> None:
    found = {c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Exception)}
    assert found == set(BUILTINS)


def test_codes_are_distinct_hyphenated_words() -> None:
    codes = [c.code for c in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(code.replace("-", "").isalpha() and code == code.lower() for code in codes)


@pytest.mark.parametrize("cls", CLASSES)
def test_is_the_builtin_and_the_base(cls: type[NdvolError]) -> None:
    with pytest.raises(BUILTINS[cls]) as caught:
        raise make(cls)
    assert isinstance(caught.value, NdvolError)


@pytest.mark.parametrize("cls", CLASSES)
def test_message_and_facts(cls: type[NdvolError]) -> None:
    error = make(cls)
    assert str(error) == "the thing 'x' is odd; got [1, 2]; expected one number; look again"
    assert (error.what, error.got, error.expected, error.hint) == (
        "the thing 'x' is odd",
        [1, 2],
        "one number",
        "look again",
    )
    assert error.places == ((3, 4),)
    assert error.code == cls.code
    assert make(cls, code="other").code == "other"
    with pytest.raises(AttributeError, match=f"^{cls.__name__} has no attribute 'nonsense'$"):
        error.nonsense


@pytest.mark.parametrize("duplicate", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
@pytest.mark.parametrize("cls", CLASSES)
def test_survives_pickle_and_copy(cls: type[NdvolError], duplicate) -> None:
    error = make(cls, code="special-case")
    error.add_note("while reading a.h5")
    again = duplicate(error)
    assert type(again) is cls
    assert str(again) == str(error)
    assert again.args == error.args
    assert vars(again) == vars(error)
    assert again.code == "special-case"
    assert again.places == ((3, 4),)
    assert again.__notes__ == ["while reading a.h5"]


def test_an_unknown_name_is_not_shown_as_a_repr() -> None:
    error = errors.UnknownNameError("there is no case 'a'", expected="one of b, c")
    assert str(error) == "there is no case 'a'; expected one of b, c"
    assert "".join(str(KeyError("x"))) == "'x'"  # what the builtin would do


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "odd"),
        ({"got": 0}, "odd; got 0"),
        ({"expected": 0}, "odd; expected 0"),
        ({"got": "", "hint": "go on"}, "odd; got ; go on"),
    ],
)
def test_only_given_parts_are_shown(options: dict[str, object], text: str) -> None:
    assert str(NdvolError("odd", **options)) == text
