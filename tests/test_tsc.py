import numpy as np
import pytest

from denser.io import tsc
from denser.types.errors import InputError

HKL = np.array([[1, 0, 0], [-1, 2, -3]])
FACTORS = np.array([[5.5 - 0.25j, 1e-3 + 2j], [0.75, -0.5j]])


def test_round_trip(tmp_path):
    tsc.write(tmp_path / "a.tsc", ["C1", "H1A"], HKL, FACTORS, "a\nmolecule")
    labels, hkl, factors = tsc.read(tmp_path / "a.tsc")
    assert labels == ["C1", "H1A"]
    np.testing.assert_array_equal(hkl, HKL)
    np.testing.assert_allclose(factors, FACTORS, rtol=1e-8)


def test_layout(tmp_path):
    """As NoSpherA2 writes it: header keys, then h k l and real,imaginary per scatterer."""
    tsc.write(tmp_path / "a.tsc", ["C1", "H1A"], HKL, FACTORS, "a molecule")
    assert (tmp_path / "a.tsc").read_text().splitlines() == [
        "TITLE: a molecule",
        "SYMM: expanded",
        "SCATTERERS: C1 H1A",
        "DATA:",
        "1 0 0 5.50000000e+00,-2.50000000e-01 7.50000000e-01,0.00000000e+00",
        "-1 2 -3 1.00000000e-03,2.00000000e+00 -0.00000000e+00,-5.00000000e-01",
    ]


def test_other_headers_are_read_over(tmp_path):
    (tmp_path / "a.tsc").write_text(
        "TITLE: x\nAD: FALSE\nSYMM: expanded\nSCATTERERS: O1\nSOURCE:\n  software\nDATA:\n"
        "0 0 2 7.5,0.5\n\n"
    )
    labels, hkl, factors = tsc.read(tmp_path / "a.tsc")
    assert (labels, hkl.tolist(), factors.tolist()) == (["O1"], [[0, 0, 2]], [[7.5 + 0.5j]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "SCATTERERS"),
        ("SCATTERERS: C1\nDATA:\n", "SCATTERERS"),
        ("SCATTERERS: C1\nDATA:\n1 0 0 5.0\n", r"a\.tsc:3: expected h k l and 1 pairs"),
        ("SCATTERERS: C1\nDATA:\n1 0 x 5.0,0.0\n", r"a\.tsc:3"),
    ],
)
def test_malformed_files(tmp_path, text, message):
    (tmp_path / "a.tsc").write_text(text)
    with pytest.raises(InputError, match=message):
        tsc.read(tmp_path / "a.tsc")


def test_bad_input(tmp_path):
    path = tmp_path / "a.tsc"
    for labels, factors, message in [
        (["C1", "C1"], FACTORS, "distinct"),
        (["C 1", "H1"], FACTORS, "distinct"),
        (["C1"], FACTORS, "shape"),
        (["C1", "H1"], FACTORS * np.nan, "finite"),
    ]:
        with pytest.raises(InputError, match=message):
            tsc.write(path, labels, HKL, factors)
    assert not path.exists()
