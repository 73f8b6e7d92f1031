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
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    teacher_params: Any
    teacher_batch_stats: Any
    cycle: jax.Array

    @classmethod
    def create(cls, variables, optimizer: optax.GradientTransformation) -> "TrainState":
        """Returns the state before the first step; the teacher's trees are zeros.

        Args:
          variables: `{"params", "batch_stats"}` of the student.
          optimizer: its `init` makes `opt_state`.
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
        )

    @property
    def student(self) -> dict[str, Any]:
        """The student's variables, as `model.apply` takes them."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def teacher(self) -> dict[str, Any]:
        """The teacher's variables, as `model.apply` takes them."""
        return {"params": self.teacher_params, "batch_stats": self.teacher_batch_stats}

    @property
    def train_items(self) -> dict[str, Any]:
        """What a checkpoint of the run holds besides the student's variables."""
        return {
            "step": self.step,
            "opt_state": self.opt_state,
            "teacher": self.teacher,
            "cycle": self.cycle,
        }

    @classmethod
    def from_items(cls, variables, train_items) -> "TrainState":
        """Returns the state whose `student` and `train_items` these are."""
        return cls(
            step=train_items["step"],
            params=variables["params"],
            batch_stats=variables["batch_stats"],
            opt_state=train_items["opt_state"],
            teacher_params=train_items["teacher"]["params"],
            teacher_batch_stats=train_items["teacher"]["batch_stats"],
            cycle=train_items["cycle"],
        )
