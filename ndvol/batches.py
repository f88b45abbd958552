"""Batches without copies: items are read into the rows of one, and workers hand it over in memory they use again.

A worker of a `DataLoader` gives its batches to the training process in shared memory. torch takes fresh memory for
every batch, and the first touch of its pages takes about as long as reading the windows that fill them. Here a worker
keeps its blocks, and fills one again when the batch that lay in it is gone. They are not in /dev/shm, which containers
often keep small.
"""

from __future__ import annotations

import mmap
import os
import sys
import weakref
from collections.abc import Callable, Sequence
from math import prod
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.multiprocessing.reductions import reduce_tensor
from torch.utils.data import get_worker_info
from torch.utils.data._utils.collate import collate as collate_by
from torch.utils.data._utils.collate import default_collate_fn_map

SMALL = 2**12
"""Bytes of a tensor that goes with the message itself: a block of its own would cost more."""
MAX_BLOCKS = 32
"""Of a worker: a training process that keeps more tensors than these gets the others in torch's own way."""

_HEADER = 64
"""In front of the voxels; the first byte is 1 while a batch lies in the block."""


def collate(items: Sequence[Any]) -> Any:
    """`torch.utils.data.default_collate`, and quicker: ``DataLoader(..., collate_fn=collate)``.

    The batches have the same types, shapes and values. Tensors that are all the rows of one which `rows` made become
    that one, uncopied, so a batch of a `PatchDataset` is the memory of its items. From a worker, a batch is the
    caller's for as long as any tensor of it lives, as ever; on systems other than Linux workers send it in torch's way.
    """
    ours: dict[Any, Callable[..., Any]] = {torch.Tensor: _stacked}
    if _is_worker():
        ours = {torch.Tensor: _handed, int: _numbers, float: _numbers}
    return collate_by(list(items), collate_fn_map={**ours, **default_collate_fn_map, **ours})


def rows(length: int, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """A tensor (length, \\*shape) whose rows are to be filled and given to `collate`; its values are arbitrary."""
    size = length * prod(shape) * dtype.itemsize
    if not size:
        return torch.empty(length, *shape, dtype=dtype)
    block = _block(size) if _is_worker() and size > SMALL else None
    array = np.empty(size, np.uint8) if block is None else block.lend()
    tensor = torch.from_numpy(array).view(dtype).view(length, *shape)
    _batches[tensor.data_ptr()] = array
    return tensor


_batches: weakref.WeakValueDictionary[int, NDArray[np.uint8]] = weakref.WeakValueDictionary()
"""The memory that `rows` made, by address."""


def _whole(items: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """The tensor whose rows are the items, all of them in order; None when there is none that `rows` made.

    It is found once: who collates the same items again gets a copy.
    """
    if not _alike(items):
        return None
    first = items[0]
    address, size = first.data_ptr(), first.numel() * first.element_size()
    memory = _batches.get(address)
    if memory is None or memory.nbytes != size * len(items):
        return None
    for number, item in enumerate(items):
        if item.data_ptr() != address + number * size or not item.is_contiguous() or item.requires_grad:
            return None
    del _batches[address]
    return torch.from_numpy(memory).view(first.dtype).view(len(items), *first.shape)


def _alike(items: Sequence[torch.Tensor]) -> bool:
    """True for plain tensors of one shape and type."""
    shape, dtype = items[0].shape, items[0].dtype
    return all(
        type(t) is torch.Tensor and t.layout == torch.strided and (t.shape, t.dtype) == (shape, dtype) for t in items
    )


def _is_worker() -> bool:
    """True in a process that hands its batches over in memory of ours."""
    return get_worker_info() is not None and sys.platform == "linux"


def _stacked(batch: Sequence[torch.Tensor], *, collate_fn_map: Any) -> torch.Tensor:
    if (whole := _whole(batch)) is not None:
        return whole
    stacked: torch.Tensor = default_collate_fn_map[torch.Tensor](batch, collate_fn_map=collate_fn_map)
    return stacked


_ELSEWHERE: Any = object()


class _Handed(torch.Tensor):
    """A tensor of a worker that arrives as an ordinary one; what is computed of it travels in torch's own way.

    Attributes
    ----------
    block : where it lies; None for a small one, which goes with the message.
    """

    block: _Block | None


class _Block:
    """Shared memory of a worker."""

    def __init__(self, size: int) -> None:
        self.size, self.handed = size, False
        self.descriptor = os.memfd_create("ndvol")
        weakref.finalize(self, os.close, self.descriptor)
        os.ftruncate(self.descriptor, _HEADER + size)
        self.map = mmap.mmap(self.descriptor, _HEADER + size)
        self.key = os.getpid(), self.descriptor, os.fstat(self.descriptor).st_ino
        self.address = _bytes_of(self.map).ctypes.data
        self._lent: Callable[[], NDArray[np.uint8] | None] = lambda: None

    @property
    def is_free(self) -> bool:
        """True when neither the training process nor this one has a tensor in it."""
        return self.map[0] == 0 and self._lent() is None

    def lend(self) -> NDArray[np.uint8]:
        """The block as an array, which frees it when it goes without having been handed over."""
        self.map[0], self.handed = 1, False
        array = _bytes_of(self.map)
        self._lent = weakref.ref(array)
        weakref.finalize(array, self._returned)
        return array

    def _returned(self) -> None:
        if not self.handed:
            self.map[0] = 0


def _bytes_of(block: mmap.mmap) -> NDArray[np.uint8]:
    """The memory behind the header; torch keeps this very array for as long as a tensor is in it."""
    return np.frombuffer(block, np.uint8, offset=_HEADER)


_blocks: dict[int, list[_Block]] = {}
"""By process, so that a fork does not write to its parent's."""


def _block(size: int) -> _Block | None:
    """A block that is free, or None when the worker has lent all that it may have."""
    mine = _blocks.setdefault(os.getpid(), [])
    for block in mine:
        if block.size == size and block.is_free:
            return block
    if len(mine) == MAX_BLOCKS:
        # One that was for batches of another shape.
        unused = next((block for block in mine if block.is_free), None)
        if unused is None:
            return None
        mine.remove(unused)
    mine.append(_Block(size))
    return mine[-1]


def _handed(batch: Sequence[torch.Tensor], *, collate_fn_map: Any) -> torch.Tensor:
    """The tensors as one that is handed over."""
    first = batch[0]
    size = len(batch) * first.numel() * first.element_size()
    if size <= SMALL:
        return _small(torch.stack(list(batch)))
    whole = _whole(batch)
    if whole is None:
        if not _alike(batch):
            return _stacked(batch, collate_fn_map=collate_fn_map)
        whole = rows(len(batch), first.shape, first.dtype)
        torch.stack(list(batch), out=whole)
    address = whole.data_ptr()
    block = next((block for block in _blocks.get(os.getpid(), ()) if block.address == address), None)
    if block is None:
        return whole
    tensor = whole.as_subclass(_Handed)
    tensor.block = block
    return tensor


def _numbers(batch: Sequence[float], *, collate_fn_map: Any) -> torch.Tensor:
    return _small(collate_by(list(batch), collate_fn_map=default_collate_fn_map))


def _small(tensor: torch.Tensor) -> torch.Tensor:
    handed = tensor.as_subclass(_Handed)
    handed.block = None
    return handed


def _reduced(tensor: _Handed) -> tuple[Any, ...]:
    """How a tensor travels."""
    plain, block = tensor.as_subclass(torch.Tensor), getattr(tensor, "block", _ELSEWHERE)
    if block is None:
        return torch.from_numpy, (plain.numpy(),)
    # torch moves the memory of a tensor when it sends another one that shares it.
    if block is _ELSEWHERE or plain.data_ptr() != block.address:
        reduced: tuple[Any, ...] = reduce_tensor(plain)  # type: ignore[no-untyped-call]
        return reduced
    block.handed = True
    return _arrived, (block.key, len(block.map), tuple(plain.shape), plain.dtype)


ForkingPickler.register(_Handed, _reduced)

_mapped: dict[tuple[int, int, int], mmap.mmap] = {}
"""Blocks of the workers, mapped into this process once."""


def _arrived(key: tuple[int, int, int], size: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """The tensor in a worker's block; the worker may use the block again when the tensor and all its views are gone."""
    if key not in _mapped:
        for known in [known for known in _mapped if not Path(f"/proc/{known[0]}").exists()]:
            del _mapped[known]
        _mapped[key] = _map(key, size)
    block = _mapped[key]
    array = _bytes_of(block)
    weakref.finalize(array, _free, block, os.getpid()).atexit = False
    return torch.from_numpy(array).view(dtype).view(shape)


def _free(block: mmap.mmap, process: int) -> None:
    # A fork of the training process has a copy of the array, and no say.
    if os.getpid() == process:
        block[0] = 0


def _map(key: tuple[int, int, int], size: int) -> mmap.mmap:
    process, number, inode = key
    descriptor = os.open(f"/proc/{process}/fd/{number}", os.O_RDWR)
    try:
        if os.fstat(descriptor).st_ino != inode:
            raise RuntimeError(f"worker {process} has given up the memory of a batch that it handed over")
        return mmap.mmap(descriptor, size)
    finally:
        os.close(descriptor)
