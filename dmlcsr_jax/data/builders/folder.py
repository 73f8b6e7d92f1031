"""Any set laid out as a folder of images, labels and lists."""

from dmlcsr_jax.data import label_sets
from dmlcsr_jax.data.builders.base import FaceParsingBuilder, Findings
from dmlcsr_jax.data.builders.records import LabelFile, Record
from dmlcsr_jax.data.folder_pairs import list_splits
from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.sources import FolderSource
from dmlcsr_jax.errors import UserError


class Folder(FaceParsingBuilder, skip_registration=True):
    """A folder as `sources.FolderSource` reads it, with all its splits.

    The labels mean what the chosen label set says, else what `label_names.txt` in the folder does.
    """

    archive = "a folder of images/ and labels/"
    parts = ("images", "labels")

    def label_set(self) -> LabelSet:
        """Returns the chosen label set, or that of the folder's label-name file."""
        if self.options.label_set is not None:
            return self.options.label_set
        path = self.source / label_sets.NAMES_FILE
        if not path.exists():
            raise UserError(
                f"{self.source} has no {label_sets.NAMES_FILE}; write one with a class "
                "name a line, or choose the labels' meaning by --label_set."
            )
        return label_sets.get(path)

    def find(self) -> Findings:
        """Returns the pairs of each split."""
        return Findings({split: self._records(split) for split in list_splits(self.source)})

    def _records(self, split: str) -> list[Record]:
        source = FolderSource(self.source, split, self.labels)
        records = []
        for image, label in map(source.files, range(len(source))):
            name = image.relative_to(self.source).with_suffix("").as_posix()
            records.append(Record(name.removeprefix("images/"), image, LabelFile(label)))
        return records
