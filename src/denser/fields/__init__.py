"""Mathematics on a grid: Fourier transforms, metrics, windows, the symmetries of the cube."""
