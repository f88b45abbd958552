"""Schedule: the numbers of samples, epoch after epoch, shared among ranks; it stops and resumes anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any, Protocol

from ndvol.errors import OptionError
from ndvol.sampling.options import whole_number
from ndvol.sampling.target import Target

OWN = ("seed", "length", "locality")
"""What a run must keep to see each sample once."""
STATE = (*OWN, "epoch", "position")


class Epochs(Protocol):
    """Samples that are numbered anew in every epoch: a `VolumeSampler` or `PatchDataset`."""

    @property
    def seed(self) -> int: ...

    def __len__(self) -> int: ...

    def set_epoch(self, epoch: int) -> None: ...

    def target(self, index: int) -> Target:
        """What sample `index` reads; asked for only with `locality`."""
        ...


class Schedule:
    """Iterating gives what is left of the current epoch for one of several ranks, and then the next epoch begins.

    The ranks take turns: of the samples left, rank r gets number r, r + world_size … All ranks get equally many;
    where the samples do not suffice, the last round begins the epoch again (`repeats`), as torch's own
    `DistributedSampler` does. Because a sample depends on seed, epoch and number alone, a run that is stopped and
    resumed with other numbers of workers and ranks sees the same samples, each once, repeats aside.

    Serves as the ``sampler`` of torch's `DataLoader` and of torchdata's `StatefulDataLoader`, which keeps the state.

    Parameters
    ----------
    data : whose epoch is set when an iteration begins.
    rank, world_size : which of how many processes this one is.
    locality : within each stretch of so many samples of an epoch, those of one case follow each other, in the order of
        their windows; batches then find cases open and share chunks. An epoch keeps its samples and none moves
        `locality` places or more, but those of one batch are less independent: choose many times the batch.

    >>> class Toy(list):
    ...     seed = 0
    ...     def set_epoch(self, epoch): pass
    >>> first = Schedule(Toy("abcdefg"), rank=0, world_size=2)
    >>> numbers = iter(first)
    >>> next(numbers), next(numbers), first.state_dict()
    (0, 2, {'seed': 0, 'length': 7, 'locality': 1, 'epoch': 0, 'position': 4})
    >>> alone = Schedule(Toy("abcdefg"))
    >>> alone.load_state_dict(first.state_dict())
    >>> len(alone), list(alone), alone.epoch
    (3, [4, 5, 6], 1)
    """

    def __init__(self, data: Epochs, *, rank: int = 0, world_size: int = 1, locality: int = 1) -> None:
        self.data = data
        self.locality = whole_number("locality", locality, least=1)
        self._stretch: tuple[tuple[int, int], list[int]] = (-1, -1), []
        self.world_size = whole_number("world_size", world_size, least=1)
        self.rank = whole_number("rank", rank)
        if self.rank >= self.world_size:
            raise OptionError("there is no such rank", got=rank, expected=f"below world_size {world_size}")
        # The epoch of the last pass, how many of its samples all ranks had when that began and have now, and
        # whether all were handed out. Workers may still be reading then, so the next epoch begins with the next pass.
        self._epoch, self._begin, self._position, self._ended = 0, 0, 0, False

    @property
    def epoch(self) -> int:
        """The current epoch: the next one as soon as all samples of the last pass were handed out."""
        return self._epoch + self._ended

    def __len__(self) -> int:
        """Number of samples that this rank gets in the current pass: the whole epoch, or what was left of it."""
        return ceil(self._left / self.world_size)

    @property
    def repeats(self) -> int:
        """How many samples of the current pass, over all ranks, are repeats that make the shares equal."""
        return len(self) * self.world_size - self._left

    def __iter__(self) -> Iterator[int]:
        if self._ended:
            self._go_to(self.epoch, 0)
        self.data.set_epoch(self._epoch)
        self._begin, length = self._position, len(self.data)
        for turn in range(len(self)):
            self._position = self._after(turn + 1)
            yield self._number((self._begin + turn * self.world_size + self.rank) % length)
        self._ended = True

    def set_epoch(self, epoch: int) -> None:
        """Begin `epoch`; when it is the current one, go on where it stands."""
        if epoch != self.epoch:
            self._go_to(whole_number("epoch", epoch), 0)

    def state_dict(self, samples: int | None = None) -> dict[str, int]:
        """What `load_state_dict` needs to go on from here, the same on all ranks.

        Parameters
        ----------
        samples : how many this rank has used since the current pass began. None: all that were handed out, which
            is more than were used when worker processes read ahead.
        """
        epoch, position = self._epoch, self._position
        if samples is not None:
            position = self._after(whole_number("samples", samples))
        elif self._ended:
            epoch, position = self.epoch, 0
        return {**self._own, "epoch": epoch, "position": position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken, maybe with another number of ranks.

        Raises
        ------
        OptionError : when the state is of samples with another seed or length, or is none.
        """
        if set(state) != set(STATE):
            raise OptionError("this is no state of a schedule", got=sorted(state), expected=STATE)
        for name, own in self._own.items():
            if state[name] != own:
                raise OptionError(
                    f"the state belongs to samples of another {name}",
                    got=state[name],
                    expected=own,
                    hint="resume with the sampler and the locality that the run began with",
                )
        self._go_to(
            whole_number("epoch", state["epoch"]), min(whole_number("position", state["position"]), len(self.data))
        )

    @property
    def _own(self) -> dict[str, int]:
        return dict(zip(OWN, (self.data.seed, len(self.data), self.locality), strict=True))

    def _number(self, position: int) -> int:
        """The sample at a position of the epoch: its own number, or by locality another of its stretch."""
        if self.locality == 1:
            return position
        first = position - position % self.locality
        if self._stretch[0] != (self._epoch, first):
            numbers = range(first, min(first + self.locality, len(self.data)))
            targets = {number: self.data.target(number) for number in numbers}
            near = sorted(numbers, key=lambda n: (targets[n].case, targets[n].window.start, n))
            self._stretch = (self._epoch, first), near
        return self._stretch[1][position - first]

    @property
    def _left(self) -> int:
        return len(self.data) - (0 if self._ended else self._begin)

    def _go_to(self, epoch: int, position: int) -> None:
        self._epoch, self._begin, self._position, self._ended = epoch, position, position, False

    def _after(self, turns: int) -> int:
        return min(len(self.data), self._begin + turns * self.world_size)
