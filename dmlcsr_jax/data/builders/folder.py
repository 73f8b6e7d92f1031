"""Any set laid out as a folder of images, labels and lists."""

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.data.builders.base import FaceParsingBuilder, Findings
from dmlcsr_jax.data.builders.records import LabelFile, Record
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.sources import FolderSource
from dmlcsr_jax.errors import UserError

_LIST = "_list.txt"
_NAMES = "label_names.txt"


class Folder(FaceParsingBuilder, skip_registration=True):
    """A folder as `sources.FolderSource` reads it; each `{split}_list.txt` makes a split.

    The labels mean what the chosen label set says, else what `label_names.txt` in the folder does.
    """

    archive = "a folder of images/, labels/ and lists"
    parts = ("images", "labels")

    def label_set(self) -> LabelSet:
        """Returns the chosen label set, or that of the folder's label-name file."""
        if self.options.label_set is not None:
            return self.options.label_set
        path = self.source / _NAMES
        if not path.exists():
            raise UserError(
                f"{self.source} has no {_NAMES}; write one with a class name a line, or choose "
                "the labels' meaning by --label_set."
            )
        return label_sets.get(path)

    def find(self) -> Findings:
        """Returns the pairs of each list."""
        splits = sorted(p.name.removesuffix(_LIST) for p in self.source.glob(f"*{_LIST}"))
        if not splits:
            raise UserError(
                f"{self.source} has no list; write train{_LIST} with an image and its label a line."
            )
        return Findings({split: self._records(split) for split in splits})

    def _records(self, split: str) -> list[Record]:
        source = FolderSource(self.source, split, self.labels)
        records = []
        for image, label in map(source.files, range(len(source))):
            name = image.relative_to(self.source).with_suffix("").as_posix()
            records.append(Record(name.removeprefix("images/"), image, LabelFile(label)))
        return records
