"""What tests of the shipped workflows share."""

import pytest


@pytest.fixture(scope="session")
def demo_server(server):
    """The suite's host, with a prior of random weights that the smoke-size workflows choose."""
    import demo_workflows

    demo_workflows.give_prior(server.base)
    return server
