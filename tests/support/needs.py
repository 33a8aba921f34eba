"""What a test needs beyond the Python packages: missing at home it is skipped, missing in CI it fails.

``ROUTER_CI=1`` says that `.ci/run` has installed everything, so that nothing is skipped there by mistake.
"""

import os
import shutil

import pytest

_ADMINISTRATOR_PATH = "/usr/local/sbin:/usr/sbin:/sbin"


def needs(program: str) -> str:
    """Return the path of an installed program, or end the test: skipped, or failed where all must be there."""
    path = shutil.which(program) or shutil.which(program, path=_ADMINISTRATOR_PATH)
    if path is not None:
        return path
    if os.environ.get("ROUTER_CI"):
        pytest.fail(f"needs {program}, which .ci/run should have installed", pytrace=False)
    pytest.skip(f"skipped: needs {program}")
