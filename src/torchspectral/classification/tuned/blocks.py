"""Which block of a backbone a parameter belongs to."""

from __future__ import annotations

import re

PATTERNS = (re.compile(r"(?:^|\.)blocks\.(\d+)\."), re.compile(r"(?:^|\.)layer(\d)\."))
FIRST = re.compile(r"(^|\.)(spectral_adapter|patch_embed|optical_patch_embed|conv1|bn1|cls_token|pos_embed)")


def block_of(name: str) -> int | None:
    """Number of the block, from 0, of a parameter's name; what stands before the first block counts to it.

    Returns
    -------
    int or None
        None for what stands after the last block.
    """
    for pattern in PATTERNS:
        found = pattern.search(name)
        if found:
            return int(found.group(1)) - (1 if "layer" in pattern.pattern else 0)
    return 0 if FIRST.search(name) else None
