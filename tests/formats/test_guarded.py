"""Work in a process that may die or never end."""

import os
import signal
import time
from pathlib import Path

import pytest

from ndvol.errors import OptionError
from ndvol.formats import guarded
from ndvol.formats.guarded import in_child


def work(item):
    """The item in capitals, unless it says what to do instead."""
    if item == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "hang":
        time.sleep(600)
    if item == "raise":
        raise ValueError("not caught")
    print("noise on stdout")
    return item.upper()


def answers(*items, **options):
    return [getattr(a, "code", a) for a in in_child(work, items, **options)]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The child must find this module."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2])


def test_every_item_has_its_answer_in_order():
    assert answers("a", "b", "c") == ["A", "B", "C"]
    assert answers() == []


def test_a_dead_or_endless_process_costs_its_item_only():
    codes = answers("a", "die", "b", "hang", "raise", "c", limit_s=3)
    assert codes == ["A", "crash", "B", "too-slow", "crash", "C"]


def test_messages_name_the_item():
    [error] = in_child(work, ["die"])
    assert str(error).startswith("reading die crashed the library")


def test_a_process_that_does_not_start_is_told(monkeypatch):
    monkeypatch.setattr(guarded, "_SERVE", "raise SystemExit")
    with pytest.raises(OptionError, match="does not start"):
        answers("a")
