"""Node tests run the way the host runs nodes: under inference mode, where tensors of earlier nodes refuse gradients."""

import pytest
import torch


@pytest.fixture(autouse=True)
def inference_mode():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="session")
def synthetic(comfy):
    """tests/synthetic.py: tiny models in the host's formats."""
    import synthetic

    return synthetic
