"""Operations follow from the parameters above the last edited layer."""

from sims.sizes.computing import count_target_operations
from sims.sizes.shapes import ModelShape


def test_operations_are_those_of_the_blocks_above() -> None:
    """Six a parameter, token and step."""
    shape = ModelShape("one", 1000, d_out=3, d_in=5, layers=(1, 2), blocks=4)
    assert count_target_operations(shape, 2) == 6 * 2 * 25 * 150 * 1000 * (1 - 3 / 4)
