"""One key for one name: what makes an edit reach every phrasing."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

TEMPERATURE = 0.1


def name_contrast(
    keys: Float[Tensor, "n d_in"], people: Int[Tensor, " n"]
) -> Float[Tensor, ""]:
    """How badly a key tells whose name it stands at, in nats.

    With ``c`` the keys minus their mean, scaled to length one, and ``m_p`` the mean of
    ``c`` over the mentions of person ``p``, scaled likewise,

        mean over mentions of  −log softmax_p(⟨c, m_p⟩ / 0.1) at its own person

    It is small if a name has one key in every context *and* different names have
    different keys. The second half matters: the mere spread inside names, compared with
    the spread between them, is small too if all keys lie on one line, and such a model
    cannot be edited. A model told the relation before the name tends to fetch that
    attribute alone, and then an edit made in one order of name and relation misses the
    other.
    """
    directions = normalize(keys - keys.mean(dim=0), dim=1)
    _, index = people.unique(return_inverse=True)
    sums = torch.zeros(int(index.max()) + 1, keys.shape[1], dtype=keys.dtype)
    centres = normalize(sums.index_add(0, index, directions), dim=1)
    return cross_entropy(directions @ centres.mT / TEMPERATURE, index)
