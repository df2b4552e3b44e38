import numpy as np
import pytest
import torch

from denser import Grid, Structure
from denser.atoms.sad import superposition
from denser.fields.cube_group import CubeOperation, cube_operations, window

OPERATIONS = [
    CubeOperation(p, (a, b, c))
    for p in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    for a in (1, -1)
    for b in (1, -1)
    for c in (1, -1)
]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_transformed_image_is_the_image_of_the_transformed_molecule(operation, ethanol):
    """Flip and roll: the SAD of the moved atoms equals the moved SAD, node for node."""
    lengths, shape = np.array([9.0, 10.0, 11.0]), np.array([18, 20, 24])
    grid = Grid(np.zeros(3), np.diag(lengths), tuple(shape))
    image = torch.tensor(superposition(ethanol, grid).values)
    order = list(operation.permutation)
    new_grid = Grid(np.zeros(3), np.diag(lengths[order]), tuple(shape[order]))
    moved = Structure(ethanol.numbers, ethanol.positions @ operation.matrix.T)
    expected = superposition(moved, new_grid).values
    np.testing.assert_allclose(window(image, operation=operation).numpy(), expected, atol=1e-8)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_inverse_undoes_an_operation(operation):
    image = torch.arange(4 * 6 * 8).reshape(4, 6, 8)
    there = window(image, operation=operation)
    assert torch.equal(window(there, operation=operation.inverse), image)


def test_operations_to_average_over():
    everything = cube_operations(48)
    assert everything[0] == CubeOperation()
    assert set(everything) == set(OPERATIONS)
    assert cube_operations(8) == everything[:8]


def test_forty_eight_operations_form_the_group():
    matrices = {tuple(op.matrix.ravel()) for op in OPERATIONS}
    assert len(matrices) == 48
    turns = {tuple(CubeOperation.turn(a, q).matrix.ravel()) for a in range(3) for q in range(4)}
    assert turns <= matrices
    for a in range(3):
        one = CubeOperation.turn(a, 1).matrix
        assert np.linalg.det(one) == pytest.approx(1)
        for q in range(4):
            np.testing.assert_array_equal(
                CubeOperation.turn(a, q).matrix, np.linalg.matrix_power(one, q)
            )
    rng = np.random.default_rng(0)
    drawn = {tuple(CubeOperation.random(rng).matrix.ravel()) for _ in range(2000)}
    assert drawn == matrices


def test_windows_wrap_and_may_exceed_the_period():
    field = torch.arange(4 * 5 * 6).reshape(4, 5, 6)
    out = window(field, start=(3, -1, 5), size=(6, 2, 3))
    assert out.shape == (6, 2, 3)
    for i, j, k in np.ndindex(*out.shape):
        assert out[i, j, k] == field[(3 + i) % 4, (-1 + j) % 5, (5 + k) % 6]
