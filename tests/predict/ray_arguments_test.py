"""What --ray is told wrongly, and what an actor takes; Ray itself is not needed."""

import importlib.util
import socket
import sys

import pytest
from colour_network import picture
from prediction_files import save, write_records

from dmlcsr_jax.errors import UserError
from dmlcsr_jax.predict.arguments import parse_arguments
from dmlcsr_jax.predict.ray_cluster import actor_resources, num_actors

CELLS = [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ray", "--shards"], "--ray writes a file a photograph; leave --shards"),
        (["--ray", "--distributed"], "--ray shares the photographs among its actors"),
        (["--ray", "--process_index=0", "--process_count=2"], "leave --distributed"),
        (["--ray_actor=CPU=2"], "--ray_actor is for --ray; give both"),
        (["--ray_actors=2"], "--ray_actors is for --ray; give both"),
        (["--ray", "--ray_actors=0"], "--ray_actors is 0; it must be 1 or more"),
    ],
)
def test_what_does_not_go_together_is_said_in_one_sentence(refused, arguments, message):
    assert refused(arguments, message).count("\n") == 1


@pytest.mark.parametrize("text", ["CPU", "CPU=many", "=2", "CPU=0", "CPU=-1", "GPU=inf", "CPU=nan"])
def test_resources_that_are_none_are_refused(capsys, text):
    with pytest.raises(SystemExit) as stop:
        parse_arguments(["a.jpg", f"--ray_actor={text}", "--ray"], "")
    assert stop.value.code == 2
    assert text in capsys.readouterr().err


def test_an_address_may_be_left_out():
    assert parse_arguments(["a.jpg", "--ray"], "").ray == ""
    assert parse_arguments(["a.jpg", "--ray=here:6379"], "").ray == "here:6379"
    assert parse_arguments(["a.jpg"], "").ray is None
    taken = parse_arguments(["a.jpg", "--ray", "--ray_actor=GPU=0.5,CPU=8"], "").ray_actor
    assert taken == {"GPU": 0.5, "CPU": 8}


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray")
def test_records_stay_with_the_plain_command(run, tmp_path):
    write_records(tmp_path / "all.array_record", [b"1"])
    status, _, errors = run(tmp_path / "all.array_record", "--ray", out=tmp_path / "out")
    assert status == 1
    assert "all.array_record is ArrayRecord; leave --ray" in errors


def test_without_the_extra_the_command_says_which(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    save(tmp_path / "photos" / "a.png", picture(CELLS))
    status, _, errors = run(tmp_path / "photos", "--ray", out=tmp_path / "out")
    assert status == 1
    assert errors == "error: --ray needs the extra ray: pip install 'dmlcsr_jax[ray]'.\n"


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray")
def test_an_address_where_nobody_is_is_said_at_once(run, tmp_path):
    save(tmp_path / "photos" / "a.png", picture(CELLS))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        status, _, errors = run(tmp_path / "photos", f"--ray={address}", out=tmp_path / "out")
    assert status == 1
    assert errors.startswith(f"error: no Ray cluster answers at {address} (")
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("asked", "nodes", "actor", "number"),
    [
        # A machine of its own: one actor with all cores.
        ({}, [{"CPU": 16}], {"CPU": 16}, 1),
        # Cores of the smallest machine that has any.
        ({}, [{"CPU": 0}, {"CPU": 16}, {"CPU": 8}], {"CPU": 8}, 3),
        # A GPU, and a fair share of the cores beside it.
        ({}, [{"CPU": 4}, {"CPU": 64, "GPU": 8}], {"GPU": 1, "CPU": 8}, 8),
        # All chips of a TPU host, which one process of JAX drives.
        ({}, [{"CPU": 8}] + 2 * [{"CPU": 112, "TPU": 4, "GPU": 0}], {"TPU": 4, "CPU": 112}, 2),
        ({"CPU": 2}, [{"CPU": 5}, {"CPU": 2}], {"CPU": 2}, 3),
        ({"GPU": 0.5}, [{"CPU": 8, "GPU": 1}], {"GPU": 0.5, "CPU": 4}, 2),
        ({"CPU": 4, "GPU": 1}, [{"CPU": 6, "GPU": 2}], {"CPU": 4, "GPU": 1}, 1),
        ({"camera": 1}, [{"CPU": 6, "camera": 2}], {"camera": 1, "CPU": 3}, 2),
    ],
)
def test_what_an_actor_takes_and_how_many_there_are(asked, nodes, actor, number):
    assert actor_resources(asked, nodes) == actor
    assert num_actors(None, actor, nodes) == number
    assert num_actors(7, actor, nodes) == 7


def test_a_cluster_that_has_too_little_is_said():
    with pytest.raises(UserError, match="say what an actor takes"):
        actor_resources({}, [{"CPU": 0}])
    with pytest.raises(UserError, match=r"no node of the Ray cluster has GPU=2, .*CPU=4; CPU=2"):
        num_actors(None, {"GPU": 2, "CPU": 1}, [{"CPU": 4}, {"CPU": 2}])
    # Nodes that are still to come.
    assert num_actors(3, {"CPU": 8}, [{"CPU": 0}]) == 3
