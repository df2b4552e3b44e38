"""Hirshfeld atom refinement: `refine` cycles, `engine` fits in a process with cctbx."""
