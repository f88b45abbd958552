"""Schedule: stopped anywhere and resumed with other ranks, a run sees every sample of every epoch once."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndvol.errors import OptionError
from ndvol.geometry import Window
from ndvol.sampling import Schedule, Target


class Data:
    """Notes which epoch was set when a sample is asked for."""

    def __init__(self, length, seed=3):
        self.length, self.seed, self.epoch = length, seed, None

    def __len__(self):
        return self.length

    def set_epoch(self, epoch):
        self.epoch = epoch


@given(st.integers(1, 40), st.integers(1, 7))
def test_ranks_share_an_epoch_equally(length, world_size):
    schedules = [Schedule(Data(length), rank=r, world_size=world_size) for r in range(world_size)]
    shares = [list(s) for s in schedules]
    assert {len(share) for share in shares} == {len(schedules[0])} == {ceil(length / world_size)}
    turns = [number for turn in zip(*shares, strict=True) for number in turn]
    assert turns[:length] == list(range(length))
    assert len(turns) - length == schedules[0].repeats < world_size
    assert turns[length:] == [k % length for k in range(len(turns) - length)]
    assert {s.epoch for s in schedules} == {1}


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(1, 4), st.integers(0, 40), st.integers(0, 9)), max_size=9))
def test_a_run_that_stops_and_resumes_sees_the_same_samples(length, parts):
    """Three epochs; each part of the run has its own number of ranks, and stops after so many samples per rank, when
    its workers have read some more ahead."""
    seen = {epoch: Counter() for epoch in range(3)}
    state = {"seed": 3, "length": length, "locality": 1, "epoch": 0, "position": 0}
    for world_size, stop, ahead in [*parts, *[(1, 10**6, 0)] * 4]:
        if state["epoch"] == 3:
            break
        epoch, states = state["epoch"], []
        for rank in range(world_size):
            schedule = Schedule(Data(length), rank=rank, world_size=world_size)
            schedule.load_state_dict(state)
            share, repeats = len(schedule), schedule.repeats
            numbers = list(islice(schedule, stop + ahead))
            assert schedule.data.epoch == (epoch if numbers or not share else None)
            for turn, number in enumerate(numbers[:stop]):
                at = state["position"] + turn * world_size + rank
                assert number == at % length
                if at < length:
                    seen[epoch][number] += 1
                else:
                    # What lies past the end repeats the beginning, in the last turn only.
                    assert turn == share - 1
                    assert repeats > 0
            states.append(schedule.state_dict(samples=len(numbers[:stop])) if stop < share else schedule.state_dict())
        assert all(s == states[0] for s in states)
        state = states[0]
        assert state["epoch"] in (epoch, epoch + 1)
    assert seen == {epoch: Counter(range(length)) for epoch in range(3)}


def test_read_ahead_is_taken_back():
    schedule = Schedule(Data(20), rank=1, world_size=2)
    numbers = iter(schedule)
    ahead = [next(numbers) for _ in range(6)]
    state = schedule.state_dict(samples=4)
    assert (state["position"], schedule.state_dict()["position"]) == (8, 12)
    again = Schedule(Data(20), rank=0, world_size=1)
    again.load_state_dict(state)
    assert list(again) == list(range(8, 20))
    assert ahead == [1, 3, 5, 7, 9, 11]


def test_set_epoch_keeps_the_place_in_the_current_epoch():
    schedule = Schedule(Data(10))
    schedule.load_state_dict({"seed": 3, "length": 10, "locality": 1, "epoch": 2, "position": 7})
    schedule.set_epoch(2)
    assert list(schedule) == [7, 8, 9]
    schedule.set_epoch(5)
    assert (list(schedule), schedule.data.epoch, schedule.epoch) == (list(range(10)), 5, 6)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"seed": 4, "length": 10, "locality": 1, "epoch": 0, "position": 0}, "another seed; got 4; expected 3"),
        ({"seed": 3, "length": 11, "locality": 1, "epoch": 0, "position": 0}, "another length; got 11; expected 10"),
        ({"seed": 3, "length": 10, "locality": 1, "epoch": -1, "position": 0}, "epoch must be a whole number"),
        ({"seed": 3, "length": 10, "locality": 1, "epoch": 0, "position": "a"}, "position must be a whole number"),
        ({"yielded": 3}, "no state of a schedule"),
    ],
)
def test_states_that_do_not_fit_are_refused(state, message):
    with pytest.raises(OptionError, match=message):
        Schedule(Data(10)).load_state_dict(state)


@pytest.mark.parametrize("options", [{"rank": 2, "world_size": 2}, {"rank": -1}, {"world_size": 0}])
def test_ranks_that_cannot_be_are_refused(options):
    with pytest.raises(OptionError):
        Schedule(Data(10), **options)


class Placed(Data):
    """Each sample lies somewhere, elsewhere in the next epoch."""

    def target(self, index):
        rng = np.random.default_rng((self.seed, self.epoch, index))
        return Target("abc"[rng.integers(3)], Window((int(rng.integers(5)),), (2,)))


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 12), st.integers(0, 40), st.integers(1, 4))
def test_locality_keeps_the_samples_of_every_stretch(length, world_size, locality, stop, later):
    """Also when the run stops and goes on with other ranks."""
    turns, state = [], None
    for ranks, most in ((world_size, stop), (later, None)):
        schedules = [Schedule(Placed(length), rank=r, world_size=ranks, locality=locality) for r in range(ranks)]
        shares = []
        for schedule in schedules:
            if state:
                schedule.load_state_dict(state)
            shares.append(list(islice(schedule, most)))
        turns += [number for turn in zip(*shares, strict=True) for number in turn]
        state = schedules[0].state_dict(samples=len(shares[0]))
        if state["position"] >= length:
            break
    data = Placed(length)
    data.set_epoch(0)
    for first in range(0, length, locality):
        stretch = range(first, min(first + locality, length))
        near = sorted(stretch, key=lambda n: (data.target(n).case, data.target(n).window.start, n))
        assert turns[first : first + len(stretch)] == (near if locality > 1 else list(stretch))


def test_a_state_of_another_locality_is_refused():
    state = Schedule(Placed(9), locality=3).state_dict()
    with pytest.raises(OptionError, match="another locality; got 3; expected 2"):
        Schedule(Placed(9), locality=2).load_state_dict(state)
    with pytest.raises(OptionError, match="locality must be a whole number"):
        Schedule(Placed(9), locality=0)
