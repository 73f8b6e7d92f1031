"""Memory that a program frees is not given back to the system, to be mapped anew."""

import platform
import subprocess
import sys

import pytest

CODE = """
import resource
import numpy as np
from dmlcsr_jax.training.host_memory import keep_freed_memory

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

page_faults()
by_default = page_faults()
keep_freed_memory()
page_faults()
print(by_default, page_faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_kept():
    said = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    by_default, kept = map(int, said.stdout.split())
    # 128 MB in pages of 4 KB, or of 2 MB where the system has those.
    assert by_default >= 64
    assert kept < by_default / 8
