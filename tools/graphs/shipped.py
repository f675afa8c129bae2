"""Every shipped workflow by its name: what builds it."""

from . import metrics, orbit_gaussians, sampling, text_to_4d, text_to_4d_gaussians

GRAPHS = {module.NAME: module.build for module in (text_to_4d, sampling, metrics, orbit_gaussians, text_to_4d_gaussians)}
