"""Entry points: what a user can fix, and Ctrl-C, end in one line."""

import signal
import subprocess
import sys

import pytest

PROCESS = """
import os, signal, time
from dmlcsr_jax.errors import exit_on_user_error

@exit_on_user_error
def main():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)

main()
"""


@pytest.mark.parametrize("inherited", [signal.SIG_DFL, signal.SIG_IGN], ids=["handled", "ignored"])
def test_ctrl_c_ends_in_one_line_also_where_it_was_ignored_by_inheritance(inherited):
    trap = "trap - INT" if inherited == signal.SIG_DFL else "trap '' INT"
    result = subprocess.run(
        ["bash", "-c", trap + '; exec "$@"', "bash", sys.executable, "-c", PROCESS],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stderr) == (130, "interrupted\n")


def test_output_that_nobody_reads_ends_in_one_line():
    code = """
from dmlcsr_jax.errors import exit_on_user_error

@exit_on_user_error
def main():
    while True:
        print("a line of many")

main()
"""
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == "stopped: nobody reads the output any more\n"
    assert process.wait(timeout=60) == 141
