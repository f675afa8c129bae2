"""Cameras, rays, rotations, meshes and isosurfaces; no parameters."""
