"""Scene fields: (position, time) to density and colour."""
