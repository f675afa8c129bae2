"""What can be known of an installed gsplat without importing it, which could start a compilation of minutes."""

import functools
from importlib import metadata

MAX_ALPHA, MAX_ALPHA_FROM_1_6 = 0.999, 0.99


@functools.cache
def installed_version() -> tuple[int, ...] | None:
    """The version's leading numbers; None without the package."""
    try:
        text = metadata.version("gsplat")
    except metadata.PackageNotFoundError:
        return None
    numbers = []
    for part in text.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def installed_max_alpha() -> float:
    """The largest alpha of one Gaussian that the installed gsplat was compiled with; that of 1.5 without the package."""
    version = installed_version()
    return MAX_ALPHA_FROM_1_6 if version is not None and version >= (1, 6) else MAX_ALPHA
