"""A small crystal of water, for several tests."""

CELL = """\
data_water
_cell_length_a 4.6
_cell_length_b 5.2
_cell_length_c 5.0
_cell_angle_alpha 90
_cell_angle_beta 98
_cell_angle_gamma 90
_space_group_name_H-M_alt 'P 1 21 1'
loop_
_space_group_symop_operation_xyz
'x, y, z'
'-x, y+1/2, -z'
"""
"""The start of a CIF: cell and symmetry."""
