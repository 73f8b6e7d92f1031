"""Two trainings in one workdir; one that was killed leaves no lock."""

import subprocess
import sys

import pytest
from dmlcsr_jax.configs import synthetic
from etils import epath

from dmlcsr_jax.errors import UserError
from dmlcsr_jax.training import loop
from dmlcsr_jax.training.workdir_lock import only_training

# As a training that another machine of the network disk runs, which no module is shared with.
_HOLDER = """
import fcntl, sys, time
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_training_is_refused_until_the_first_has_ended(tmp_path):
    config = synthetic.get_config()
    config.train.batch_size = config.eval.batch_size = 32
    said = f"another training is at work in {tmp_path}"
    with only_training(epath.Path(tmp_path)), pytest.raises(UserError, match=said):
        loop.train_and_evaluate(config, tmp_path)
    with only_training(epath.Path(tmp_path)):
        pass


def test_the_lock_of_one_that_is_killed_is_gone(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path / ".lock")], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="another training"), only_training(epath.Path(tmp_path)):
        pass
    holder.kill()
    holder.communicate()
    with only_training(epath.Path(tmp_path)):
        pass


def test_what_a_killed_one_has_left_half_written_is_removed(tmp_path):
    (tmp_path / ".0123456789abcdef.part").write_text("half")
    (tmp_path / "mine.part").write_text("mine")
    with only_training(epath.Path(tmp_path)):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "mine.part"}


@pytest.mark.parametrize("workdir", ["gs://bucket/run", "/dev/null"])
def test_where_there_is_no_lock_training_goes_without(workdir):
    with only_training(epath.Path(workdir)):
        pass
