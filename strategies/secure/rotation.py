"""The rotation that the parties share and the server lacks.

Party ``i`` owns columns ``I_i`` of a random orthogonal ``Q``, and sends
``Q[:, I_i] K_i`` under masks. The sum is ``Q K`` of all parties' keys together: its
gram is exactly the pooled one, and whatever else it says depends on nothing but ``Q``.
"""

import numpy as np
from jaxtyping import Float
from torch import Tensor

from editing.algebra.encodings import draw_rotation
from strategies.secure.keys import context, derive
from strategies.secure.masks import add_stream


def derive_rotation(secret: bytes, *parts: str | int) -> bytes:
    """Derive the key of the rotation of one layer and round."""
    return derive(secret, context("rotation", *parts))


def rotation_columns(
    key: bytes, size: int, columns: slice
) -> Float[Tensor, "size own"]:
    """Return some columns of the ``size × size`` rotation that a key determines.

    Args:
        key: From `derive_rotation`.
        size: Rows of all parties.
        columns: A party's own.
    """
    noise = np.zeros(size * size, np.uint64)
    add_stream(noise, key, subtract=False)
    rotation: Tensor = draw_rotation(size, noise=bytearray(noise.tobytes()))
    return rotation[:, columns]
