"""What is used of tensorflow-datasets beyond its public interface.

Shards are written by this package, in parallel and so that an interrupted run goes on; there is no
public way to have tensorflow-datasets describe finished files.
"""

import abc
import contextlib
import functools
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer, writer
from tensorflow_datasets.core.file_adapters import FileFormat


class FinishedShardsBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Describes finished ArrayRecord shards and moves them to the set's place."""

    def __init__(self, *, data_dir: str | os.PathLike):
        super().__init__(data_dir=data_dir, file_format=FileFormat.ARRAY_RECORD)

    @abc.abstractmethod
    def finished_shards(self) -> Mapping[str, list[tuple[pathlib.Path, int]]]:
        """Returns the shards of each split, in order, with their numbers of examples."""

    def shard_name(self, split: str, index: int, num_shards: int) -> str:
        """Returns the file name of a shard."""
        template = self._get_filename_template(split_name=split)
        return template.sharded_filepath(shard_index=index, num_shards=num_shards).name

    def describe(self, download_dir: pathlib.Path) -> None:
        """Describes the shards and puts them and the description in place by one renaming.

        Args:
          download_dir: for what tensorflow-datasets wants to write meanwhile.
        """
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        # What tensorflow-datasets prints speaks of downloads, of which there are none.
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            self.download_and_prepare(download_dir=download_dir, download_config=config)

    def _shard_iterators_per_split(self, dl_manager) -> dict[str, list[Callable]]:
        del dl_manager  # Nothing is downloaded.
        # The shards are finished: `_Adopt` takes the files, and the iterators are only counted.
        return {
            split: [functools.partial(_placeholders, count) for _, count in shards]
            for split, shards in self.finished_shards().items()
        }

    def _example_writer(self) -> writer.ExampleWriter:
        shards = [path for split in self.finished_shards().values() for path, _ in split]
        return _Adopt({path.name: path for path in shards})


class _Adopt(writer.ExampleWriter):
    """Gives tensorflow-datasets the finished shards instead of writing examples."""

    def __init__(self, shards: Mapping[str, pathlib.Path]):
        super().__init__(file_format=FileFormat.ARRAY_RECORD)
        self._shards = shards

    def write(self, path, examples):
        del examples
        path = pathlib.Path(path)
        try:
            os.link(self._shards[path.name], path)
        except OSError:  # A file system without links.
            shutil.copyfile(self._shards[path.name], path)


def _placeholders(count: int) -> Iterator[tuple[int, None]]:
    return ((i, None) for i in range(count))


def serializer(schema: tfds.features.FeaturesDict) -> Callable[[Mapping[str, Any]], bytes]:
    """Returns a function that turns an example into the bytes of its record."""
    examples = example_serializer.ExampleSerializer(schema.get_serialized_info())

    def serialize(example: Mapping[str, Any]) -> bytes:
        # Not `serialize_example`: it puts the features in another order in each process.
        encoded = examples.get_tf_example(schema.encode_example(example))
        return encoded.SerializeToString(deterministic=True)

    return serialize
