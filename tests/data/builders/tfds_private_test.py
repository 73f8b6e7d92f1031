"""What is used of tensorflow-datasets beyond its public interface is there."""

import importlib
import inspect

import pytest
import tensorflow_datasets as tfds

CORE = "tensorflow_datasets.core"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (f"{CORE}.example_serializer", "ExampleSerializer.get_tf_example"),
        (f"{CORE}.writer", "ExampleWriter.write"),
        (f"{CORE}.file_adapters", "FileFormat.ARRAY_RECORD"),
        (f"{CORE}", "ShardBasedBuilder._shard_iterators_per_split"),
        (f"{CORE}", "ShardBasedBuilder._example_writer"),
        (f"{CORE}", "DatasetBuilder._get_filename_template"),
        (f"{CORE}.naming", "ShardedFileTemplate.sharded_filepath"),
    ],
)
def test_private_names_are_there(module, name):
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
        assert found is not None, f"{module}.{name} is gone: see builders/tfds_private.py"


def test_the_writer_is_asked_by_path_and_examples():
    writer = importlib.import_module(f"{CORE}.writer").ExampleWriter
    assert list(inspect.signature(writer.write).parameters) == ["self", "path", "examples"]
    assert "file_format" in inspect.signature(writer.__init__).parameters
    template = tfds.core.naming.ShardedFileTemplate.sharded_filepath
    assert {"shard_index", "num_shards"} <= set(inspect.signature(template).parameters)
