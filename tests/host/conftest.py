"""What tests of the shipped workflows and of faults share."""

import pytest


@pytest.fixture(scope="session")
def demo_server(server):
    """The suite's host, with a prior of random weights that the smoke-size workflows choose."""
    import demo_workflows

    demo_workflows.give_prior(server.base)
    return server


@pytest.fixture(scope="session")
def disk(tmp_path_factory):
    """The output folder of the host that breaks: a small disk of its own; None where this process may not mount one."""
    import faults

    try:
        mounted = faults.SmallDisk(tmp_path_factory.mktemp("disk") / "output")
    except OSError:
        yield None
        return
    yield mounted
    mounted.close()


@pytest.fixture(scope="session")
def broken(host_tree, demo_server, disk, tmp_path_factory):
    """A host that breaks on demand: see tests/host/fault_pack."""
    import demo_workflows
    import faults
    import real_host

    base = faults.prepare(tmp_path_factory.mktemp("broken") / "base")
    demo_workflows.give_prior(base, like=demo_server.base)
    server = real_host.start(host_tree, base, ("--output-directory", disk.folder) if disk else ())
    yield server
    server.host.stop()


@pytest.fixture(scope="session")
def output(broken, disk):
    """The output folder of the host that breaks."""
    return disk.folder if disk else broken.base / "output"


def pytest_terminal_summary(terminalreporter):
    """What tests have to say at the end of a run, also when they passed: their property "summary"."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == "summary":
                terminalreporter.write_line(text)
