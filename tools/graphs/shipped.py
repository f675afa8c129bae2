"""Every shipped workflow by its name: what builds it."""

from . import dream_in_4d, image_to_4d, metrics, orbit_gaussians, personalised_4d, reanimate, sampling, text_to_4d, text_to_4d_4dfy, text_to_4d_gaussians

GRAPHS = {module.NAME: module.build for module in (text_to_4d, sampling, metrics, orbit_gaussians, text_to_4d_gaussians)}
PAIRS = (text_to_4d_4dfy, dream_in_4d, reanimate, image_to_4d, personalised_4d)
GRAPHS |= {module.DEMO: module.build_demo for module in PAIRS} | {module.NAME: module.build_real for module in PAIRS}
