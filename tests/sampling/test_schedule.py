"""Schedule: stopped anywhere and resumed with other ranks, a run sees every sample of every epoch once."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndvol.errors import OptionError
from ndvol.sampling import Schedule


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
    state = {"seed": 3, "length": length, "epoch": 0, "position": 0}
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
    schedule.load_state_dict({"seed": 3, "length": 10, "epoch": 2, "position": 7})
    schedule.set_epoch(2)
    assert list(schedule) == [7, 8, 9]
    schedule.set_epoch(5)
    assert (list(schedule), schedule.data.epoch, schedule.epoch) == (list(range(10)), 5, 6)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"seed": 4, "length": 10, "epoch": 0, "position": 0}, "another seed; got 4; expected 3"),
        ({"seed": 3, "length": 11, "epoch": 0, "position": 0}, "another length; got 11; expected 10"),
        ({"seed": 3, "length": 10, "epoch": -1, "position": 0}, "epoch must be a whole number"),
        ({"seed": 3, "length": 10, "epoch": 0, "position": "a"}, "position must be a whole number"),
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
