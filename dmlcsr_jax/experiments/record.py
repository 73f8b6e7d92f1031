"""The small JSON file that a run leaves."""

import importlib.metadata
import json
import os
import pathlib
import platform
from typing import Any

from dmlcsr_jax import atomic_file
from dmlcsr_jax import config as config_lib
from dmlcsr_jax.configs import default
from dmlcsr_jax.data.sources import label_set_of
from dmlcsr_jax.errors import UserError, differences

_SCORES = ("mean_f1", "miou", "boundary_mean_f1", "image_mean_f1", "worst_tenth_mean_f1")
_LIBRARIES = ("jax", "flax", "optax", "numpy", "opencv-python-headless")


def fields_of(config) -> dict[str, Any]:
    """Returns the flat fields of a config that decide the run's parameters."""
    fields = config_lib.fixed_fields(config, label_set_of(config.data))
    return {name: value for name, value in fields.items() if not name.startswith("label_set.")}


def read_record(path: pathlib.Path, config) -> dict[str, Any] | None:
    """Returns the record of a finished run, None where there is none.

    A field that the config has got since is no difference where its value is the default.

    Raises:
      UserError: where the file is damaged or of another config.
    """
    try:
        record = json.loads(path.read_text())
        fields = record["config"]
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no record of a run; delete it to run again.") from error
    now = fields_of(config)
    if differing := differences(_completed(fields, now), now):
        raise UserError(f"{path} is of another config: {differing}; delete it to run again.")
    return record


def find_same(out: pathlib.Path, config) -> pathlib.Path | None:
    """Returns the record, of any experiment in `out`, of a run by the same config."""
    fields = fields_of(config)
    for path in sorted(out.glob("*/*.json")):
        recorded = json.loads(path.read_text()).get("config")
        if recorded and _completed(recorded, fields) == fields:
            return path
    return None


def _completed(recorded: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """Returns a record's fields with the defaults of those of `fields` that are newer than it."""
    defaults = config_lib.flatten(default.get_config())
    return recorded | {name: defaults[name] for name in fields.keys() - recorded.keys()}


def write_record(path: pathlib.Path, config, metrics: dict[str, Any]) -> None:
    """Writes what is kept of a run.

    Args:
      path: the JSON file.
      config: the run's.
      metrics: the content of its `metrics.json`.
    """
    record = {
        "config": fields_of(config),
        "num_images": metrics["num_images"],
        **{name: metrics[name] for name in _SCORES},
        "f1": {name: scores["f1"] for name, scores in metrics["classes"].items()},
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        },
    }
    atomic_file.write_text(path, json.dumps(record, indent=1) + "\n")
