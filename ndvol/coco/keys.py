"""The keys of a target dictionary: which there are, what other names they have, and what is refused.

==================================  ====================================================================================
``gid`` (``image_id``)              the image: a picture, or a case of a bundle
``vidid`` (``video_id``)            the video, whose frames lie along t; counts before ``gid``
``gids`` (``image_ids``)            images to put along t, in this order, from any video; counts before ``gid``
``aid``                             an annotation: its image, and its box where nothing else says a window
``slices``                          one slice per axis, t first; steps from 1 on, negative starts lie outside
``space_slice``, ``time_slice``     the same for the axes in space and for t; count before ``slices``
``cx cy cz``                        centre of the window, where no slice says it: it starts at floor(c - d/2)
``width height depth``              its extent d: exactly ceil(d) voxels. An axis of which nothing is said is whole
``window_dims``                     lengths per axis in space instead of the extent; or ``extent``, or ``square``
``pad``                             voxels more on both sides: a number, one per axis, or (before, after) per axis
``padkw``                           ``mode`` (constant, edge, reflect, symmetric, wrap) and ``constant_values`` (0)
``channels``                        names (``r|g|b``, a list, ``<all>``); a case's images are its channels
``scale``                           a factor, or (x, y[, z]); t is never scaled
``interpolation``, ``antialias``    of ``scale`` and of warped assets: linear, cubic or nearest; as it needs
``dtype``                           of the patch, which must hold its values
``as_xarray``                       the patch as an `xarray.DataArray`
``annot_ids``                       the annotations to hand out, whatever the window sees
``visible_thresh``                  the share of an object that must be seen, 0 … 1
``legacy_target, legacy_annots``    False leaves out ``tr``, and the columns beside ``frame_dets``
==================================  ====================================================================================

A key that is None counts as absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from ndvol.errors import OptionError

ALIASES = {"image_id": "gid", "image_ids": "gids", "video_id": "vidid"}

SOURCE_KEYS = ("gid", "vidid", "gids", "aid")
WINDOW_KEYS = ("slices", "space_slice", "time_slice", "window_dims", "cx", "cy", "cz", "width", "height", "depth")
READ_KEYS = ("pad", "padkw", "channels", "scale", "interpolation", "antialias", "as_xarray", "dtype")
ANNOTATION_KEYS = ("annot_ids", "visible_thresh", "legacy_target", "legacy_annots")

ROW_KEYS = ("category_id", "img_width", "img_height", "aids", "role")
"""What `CocoRegions` writes into the targets it hands out; says where a target comes from, changes nothing."""

ANSWER_KEYS = ("space_dims", "data_dims", "annot_idx")
"""What `CocoSampler.load_sample` writes into ``sample["target"]``, so that it can be loaded again; worked out anew."""

KEYS = (*SOURCE_KEYS, *WINDOW_KEYS, *READ_KEYS, *ANNOTATION_KEYS, *ROW_KEYS, *ANSWER_KEYS)

UNSUPPORTED = {
    "use_native_scale": (False, "all channels come on the grid of the image or video; load assets one by one"),
    "realign_native": (False, "all channels come on the grid of the image or video"),
    "nodata": (None, "the voxels are returned as they are stored; mask them afterwards"),
    "finalize": (True, "samples are arrays; there is no delayed image to return"),
    "optimize": (True, "there is no delayed image to optimise"),
    "verbose_ndsample": (False, "nothing is printed; look at sample['target'] and sample['params']"),
}
"""Keys of ndsampler that would change the answer in a way that is not offered: the one value that is, and a hint."""


def known_keys(target: Mapping[str, Any]) -> dict[str, Any]:
    """`target` under the canonical names of its keys, without those that are None.

    Raises
    ------
    OptionError : for a key that does not exist (the message names the nearest that does), an option of ndsampler
        that is not offered, or two names of one key that contradict each other.

    >>> known_keys({"image_id": 3, "cx": 5})
    {'gid': 3, 'cx': 5}
    """
    if not isinstance(target, Mapping):
        raise OptionError("a target must be a dictionary", got=type(target).__name__, expected="{'gid': 1, …}")
    found: dict[str, Any] = {}
    for given, value in target.items():
        if given in UNSUPPORTED:
            neutral, hint = UNSUPPORTED[given]
            if value is not None and value != neutral:
                raise OptionError(
                    f"the target key {given!r} is not offered", got=value, expected=neutral, hint=hint, key=given
                )
            continue
        key = ALIASES.get(given, given)
        if key not in KEYS:
            raise unknown_key("target key", given, (*KEYS, *ALIASES, *UNSUPPORTED))
        if value is None:
            continue
        if key in found and not _same(found[key], value):
            raise OptionError(f"two names of the target key {key!r} contradict each other", got=(found[key], value))
        found[key] = value
    return found


def unknown_key(what: str, given: object, known: tuple[str, ...]) -> OptionError:
    """The error for a key or argument that does not exist."""
    close = get_close_matches(str(given), known, n=1, cutoff=0.5)
    return OptionError(
        f"there is no {what} {given!r}",
        hint=f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(known))}",
        code="unknown-key",
        key=given,
    )


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except ValueError:  # arrays compare by element
        return list(one) == list(other)
