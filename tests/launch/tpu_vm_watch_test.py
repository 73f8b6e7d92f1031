"""Cloud TPU: what happens to a run whose slice comes and goes."""

import pytest
from launch_bench import CREATE, DELETE, LIST, NODE, START, STATE, provision


class TestWatch:
    """Cloud TPU: what happens to a run whose slice comes and goes."""

    def watch(self, bench, slices, nodes, states, word="watch", check=True, **more):
        bench.answer({"list": slices, "describe": nodes, "state;": states} | more)
        result = bench.run("tpu_vm.sh", "--yes", word, check=check)
        return result, bench.calls()

    def test_waits_until_all_have_finished(self, bench):
        states = ["running\nrunning", "finished\nrunning", "finished\nfinished"]
        result, calls = self.watch(bench, ["ACTIVE"], ["READY"], states)
        assert "finished" in result.stderr
        assert calls == [LIST, NODE, STATE] * 3

    def test_a_preempted_slice_is_made_anew_and_started(self, bench):
        slices = [
            "ACTIVE", "SUSPENDING", "SUSPENDED", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE",
        ]  # fmt: skip
        result, calls = self.watch(bench, slices, ["READY"], ["running", "absent", "finished"])
        assert calls == [
            LIST, NODE, STATE, LIST, LIST, DELETE, [*CREATE, "--spot"], LIST, LIST,
            LIST, NODE, STATE, *provision(bench), START, LIST, NODE, STATE,
        ]  # fmt: skip
        assert "helen-1: WAITING_FOR_RESOURCES" in result.stderr

    def test_a_preempted_node_of_an_active_request_too(self, bench):
        _, calls = self.watch(bench, ["ACTIVE"], ["PREEMPTED", "READY"], ["finished"])
        assert calls == [LIST, NODE, DELETE, [*CREATE, "--spot"], LIST, NODE, STATE]

    def test_a_slice_torn_down_elsewhere_is_not_rented_again(self, bench):
        slices = ["ACTIVE", "ACTIVE", "DELETING", ""]
        nodes = ["READY", "DELETING"]
        result, calls = self.watch(bench, slices, nodes, ["running"], check=False)
        assert result.returncode == 1
        assert "the slice helen-1 is gone" in result.stderr
        assert calls == [LIST, NODE, STATE, LIST, NODE, LIST, LIST]

    def test_neither_is_one_that_this_watch_has_made(self, bench):
        slices = ["SUSPENDED", "WAITING_FOR_RESOURCES", ""]
        result, calls = self.watch(bench, slices, ["READY"], ["running"], check=False)
        assert "the slice helen-1 is gone" in result.stderr
        assert calls == [LIST, DELETE, [*CREATE, "--spot"], LIST, LIST]

    def test_a_request_that_fails_after_the_slice_is_deleted_is_made_again(self, bench):
        result, calls = self.watch(
            bench, ["SUSPENDED", "DELETING", [1, ""], "", "ACTIVE"], ["READY"], ["finished"],
            create=[[1, ""], ""],
        )  # fmt: skip
        assert "that did not work" in result.stderr
        asked = [*CREATE, "--spot"]
        assert calls == [LIST, DELETE, asked, LIST, LIST, LIST, asked, LIST, NODE, STATE]

    @pytest.mark.parametrize("state", ["stopped\nfinished", "lost\nlost"])
    def test_a_run_stopped_from_outside_is_started_again(self, bench, state):
        _, calls = self.watch(bench, ["ACTIVE"], ["READY"], [state, "finished"])
        assert calls == [LIST, NODE, STATE, START, LIST, NODE, STATE]

    def test_it_starts_with_its_own_arguments(self, bench):
        bench.answer({"list": ["ACTIVE"], "describe": ["READY"], "state;": ["lost", "finished"]})
        bench.run("tpu_vm.sh", "watch", "--", "--mode=eval")
        assert [*START[:-1], f"{START[-1]} --mode=eval"] in bench.calls()

    def test_a_machine_without_the_checkout_is_provisioned(self, bench):
        _, calls = self.watch(bench, ["ACTIVE"], ["READY"], ["absent", "finished"])
        assert calls == [LIST, NODE, STATE, *provision(bench), START, LIST, NODE, STATE]

    @pytest.mark.parametrize("word", ["watch", "run"])
    def test_a_run_stopped_on_request_ends_the_watch_and_the_slice_stays(self, bench, word):
        first = [""] if word == "run" else []
        states = ["running\nrunning", "requested\nrunning", "requested\nstopped"]
        result, calls = self.watch(bench, [*first, "ACTIVE"], ["READY"], states, word)
        assert "on request" in result.stderr
        assert calls[-9:] == [LIST, NODE, STATE] * 3
        assert DELETE not in calls

    def test_failures_are_few(self, bench):
        result, calls = self.watch(
            bench, ["ACTIVE"], ["READY"], ["failed\nlost", "running", "failed"], check=False
        )
        assert result.returncode == 1
        assert "the run has failed" in result.stderr.splitlines()[-1]
        assert "failure 3, and MAX_FAILURES is 2" in result.stderr
        assert calls.count(START) == 2

    def test_failures_long_ago_are_forgiven(self, bench):
        healthy = ["running"] * 10
        states = ["failed", "failed", *healthy, "failed", "finished"]
        _, calls = self.watch(bench, ["ACTIVE"], ["READY"], states)
        assert calls.count(START) == 3

    def test_steps_that_fail_are_counted_too(self, bench):
        result, calls = self.watch(
            bench, ["ACTIVE"], ["READY"], ["absent"], check=False, **{"worker.sh prov": [[1, ""]]}
        )
        assert result.returncode == 1
        assert calls == [LIST, NODE, STATE, *provision(bench)] * 3
        last = result.stderr.splitlines()[-1]
        assert "failure 3, and MAX_FAILURES is 2" in last
        teardown = f"launch/tpu_vm.sh --settings '{bench.folder}/my settings.env' teardown"
        assert f"helen-1 stays and may cost money: {teardown}" in last
        assert DELETE not in calls

    def test_a_step_that_failed_for_a_preemption_is_no_failure(self, bench):
        slices = ["ACTIVE", "ACTIVE", "SUSPENDED", "ACTIVE"]
        states = ["absent"] * 5 + ["finished"]
        broken = {"worker.sh prov": [*[[1, ""]] * 4, ""]}
        _, calls = self.watch(bench, slices, ["READY"], states, **broken)
        assert calls.count([*CREATE, "--spot"]) == 1
        assert calls.count(START) == 1

    def test_a_request_without_quota_is_not_made_for_ever(self, bench):
        result, calls = self.watch(
            bench, ["", "FAILED"], ["no quota for v5litepod"], [], "run", check=False
        )
        assert result.returncode == 1
        assert "no quota for v5litepod" in result.stderr
        assert calls.count([*CREATE, "--spot"]) == 3
        assert "failure 3, and MAX_FAILURES is 2" in result.stderr.splitlines()[-1]

    def test_a_slice_that_cannot_be_deleted_is_not_tried_for_ever(self, bench):
        result, calls = self.watch(
            bench, ["SUSPENDED"], [], [], check=False, **{"resources delete": [[1, ""]]}
        )
        assert result.returncode == 1
        assert calls == [LIST, DELETE] * 3

    def test_run_does_it_all(self, bench):
        slices = ["", "ACTIVE"]
        _, calls = self.watch(bench, slices, ["READY"], ["absent", "finished"], "run")
        assert calls == [
            LIST, [*CREATE, "--spot"], LIST, NODE, STATE, *provision(bench), START,
            LIST, NODE, STATE, DELETE,
        ]  # fmt: skip

    def test_run_lives_through_what_goes_wrong_before_the_start(self, bench):
        slices = ["", [1, ""], "WAITING_FOR_RESOURCES", [1, ""], "SUSPENDED", "ACTIVE"]
        result, calls = self.watch(
            bench, slices, ["READY"], [[255, ""], "absent", "absent", "finished"], "run",
            scp=[[1, ""], ""],
        )  # fmt: skip
        copy, unpack = provision(bench)
        assert calls == [
            LIST, [*CREATE, "--spot"], LIST, LIST, LIST, LIST, DELETE, [*CREATE, "--spot"],
            LIST, NODE, STATE, LIST, NODE, STATE, copy, LIST, NODE, STATE, copy, unpack, START,
            LIST, NODE, STATE, DELETE,
        ]  # fmt: skip
        assert result.stderr.count("did not answer") == 3

    def test_a_cloud_that_does_not_answer_is_asked_again(self, bench):
        result, calls = self.watch(bench, [[1, ""], "ACTIVE"], ["READY"], [[255, ""], "finished"])
        assert result.stderr.count("did not answer") == 2
        assert DELETE not in calls
