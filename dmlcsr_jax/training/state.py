"""Everything that changes while a network is trained."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax


@flax.struct.dataclass
class TrainState:
    """The state of a run, a pytree.

    Attributes:
      step: int32 scalar, optimisation steps made.
      params: the student's parameters.
      batch_stats: the student's running statistics.
      opt_state: the optimiser's state (momentum).
      teacher_params: average of the students at the ends of the cycles so far.
      teacher_batch_stats: statistics of the teacher, re-estimated after each average.
      cycle: int32 scalar, number of averages made (m of the method); 0: there is no teacher yet.
      average: `{"params", "batch_stats"}`, the exponential average of the student's; None where
        the config asks for none.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    teacher_params: Any
    teacher_batch_stats: Any
    cycle: jax.Array
    average: Any = None

    @classmethod
    def create(
        cls, variables, optimizer: optax.GradientTransformation, averaged: bool = False
    ) -> "TrainState":
        """Returns the state before the first step; the teacher's trees are zeros.

        Args:
          variables: `{"params", "batch_stats"}` of the student.
          optimizer: its `init` makes `opt_state`.
          averaged: whether the exponential average of the weights is kept.
        """
        params, batch_stats = variables["params"], variables["batch_stats"]
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=batch_stats,
            opt_state=optimizer.init(params),
            teacher_params=jax.tree.map(jnp.zeros_like, params),
            teacher_batch_stats=jax.tree.map(jnp.zeros_like, batch_stats),
            cycle=jnp.zeros((), jnp.int32),
            average={"params": params, "batch_stats": batch_stats} if averaged else None,
        )

    @classmethod
    def from_checkpoint(
        cls, eval_variables: dict[str, Any], train_items: dict[str, Any]
    ) -> "TrainState":
        """Returns the state whose `eval_variables` and `train_items()` these are."""
        trained = train_items.get("trained")
        return cls(
            step=train_items["step"],
            params=(trained or eval_variables)["params"],
            batch_stats=(trained or eval_variables)["batch_stats"],
            opt_state=train_items["opt_state"],
            teacher_params=train_items["teacher"]["params"],
            teacher_batch_stats=train_items["teacher"]["batch_stats"],
            cycle=train_items["cycle"],
            average=eval_variables if trained else None,
        )

    def with_teacher(self, teacher: dict[str, Any]) -> "TrainState":
        """Returns the state at the end of a cycle that has made `teacher`."""
        return self.replace(
            teacher_params=teacher["params"],
            teacher_batch_stats=teacher["batch_stats"],
            cycle=self.cycle + 1,
        )

    def train_items(self) -> dict[str, Any]:
        """Returns what a checkpoint of the run holds beside `eval_variables`."""
        items = {
            "step": self.step,
            "opt_state": self.opt_state,
            "teacher": self.teacher,
            "cycle": self.cycle,
        }
        if self.average is not None:
            items["trained"] = {"params": self.params, "batch_stats": self.batch_stats}
        return items

    @property
    def eval_variables(self) -> dict[str, Any]:
        """The student as it is evaluated and kept: the average of its weights if there is one."""
        if self.average is not None:
            return self.average
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def teacher(self) -> dict[str, Any]:
        """The teacher's variables, as `model.apply` takes them."""
        return {"params": self.teacher_params, "batch_stats": self.teacher_batch_stats}


def update_average(average, variables, decay: float, step):
    """Takes the weights after a step into their exponential average.

    Early in a run the decay is less, `(1 + step) / (10 + step)`, so that the first weights are
    soon forgotten.

    Args:
      average: `{"params", "batch_stats"}`, the average so far.
      variables: the same trees after this step.
      decay: share of the average that is kept, at most.
      step: optimisation steps made before this one, may be traced.

    Returns:
      The average, in its own dtypes.
    """
    kept = jnp.minimum(decay, (1 + step) / (10 + step))

    def mix(old, new):
        share = kept.astype(old.dtype)
        return share * old + (1 - share) * new

    return jax.tree.map(mix, average, variables)
