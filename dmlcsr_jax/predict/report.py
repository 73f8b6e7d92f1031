"""What the terminal says: what has become of the pictures, and what the classes are."""

import collections
import dataclasses
import sys
from collections.abc import Mapping

import tabulate
from etils import epath

from dmlcsr_jax.data.label_sets import LabelSet
from dmlcsr_jax.data.label_sets.sides import left_of
from dmlcsr_jax.errors import UserError, one_line
from dmlcsr_jax.predict.arguments import Options
from dmlcsr_jax.predict.outputs import write

# Failures beyond these are in failed.txt alone.
_MAX_PRINTED = 20


class AlreadyLabelled(UserError):
    """The outputs of a picture are there, made of the same content with the same settings."""

    def __init__(self, name: str, line: str | None = None):
        super().__init__(name)
        self.line = line


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A picture that was labelled.

    Attributes:
      name: what it is called.
      is_faceless: whether faces were looked for and none was found.
      doubts: why not to trust the labels of its faces, in words.
      line: its line of JSON; None for none.
      replaces: whether there was a result of it, of other settings or content.
    """

    name: str
    is_faceless: bool = False
    doubts: tuple[str, ...] = ()
    line: str | None = None
    replaces: bool = False


class Report:
    """Counts what becomes of this process's pictures."""

    def __init__(self):
        self._num_labelled = 0
        self._faceless: list[str] = []
        self._doubtful: list[str] = []
        self._doubts: collections.Counter[str] = collections.Counter()
        self._num_replaced = 0
        self._num_skipped = 0
        self._failed: list[str] = []

    @property
    def all_read(self) -> bool:
        """Whether no picture has failed."""
        return not self._failed

    def add(self, result: Labelled | UserError) -> None:
        """Counts a picture by its result: labelled, or the `UserError` that says why not."""
        if isinstance(result, AlreadyLabelled):
            self._num_skipped += 1
        elif isinstance(result, UserError):
            self._failed.append(one_line(str(result)))
        else:
            self._num_labelled += 1
            self._num_replaced += result.replaces
            if result.is_faceless:
                self._faceless.append(result.name)
            if result.doubts:
                self._doubtful.append(result.name)
                self._doubts.update(set(result.doubts))

    def finish(
        self,
        out: epath.Path,
        seconds: float,
        ignored: Mapping[str, int],
        options: Options,
    ) -> None:
        """Prints the counts and the first failures, and writes all failures to `failed.txt`.

        Args:
          out: the folder of the outputs.
          seconds: what the labelling took.
          ignored: files that were left alone, by suffix.
          options: of the command line.
        """
        index, count = options.process_index, options.process_count
        share, name = "", "failed.txt"
        if count > 1:
            share, name = f"process {index} of {count}: ", f"failed-{index:05d}-of-{count:05d}.txt"
        replaced = f"{n} of them in place of earlier results, " if (n := self._num_replaced) else ""
        print(
            f"{share}{self._num_labelled} labelled in {seconds:.1f} s "
            f"({self._num_labelled / seconds:.1f} images/s), {replaced}"
            f"{self._num_skipped} were labelled before, {len(self._failed)} failed; "
            f"see {one_line(str(out))}"
        )
        if self._faceless:
            print(
                f"no face was found in {_some(self._faceless)}: all is background there, but for "
                "what the map shows of a person"
            )
        if self._doubtful:
            reasons = ", ".join(f"{doubt} {n}" for doubt, n in self._doubts.most_common())
            print(f"do not trust without a look: {_some(self._doubtful)} ({reasons})")
        if ignored:
            counts = collections.Counter(ignored).most_common(5)
            sentence = ", ".join(f"{number} {suffix}" for suffix, number in counts)
            print(f"left alone: {one_line(sentence)}")
        if not self._failed:
            (out / name).unlink(missing_ok=True)
            return
        for sentence in self._failed[:_MAX_PRINTED]:
            print(f"error: {sentence}", file=sys.stderr)
        if (more := len(self._failed) - _MAX_PRINTED) > 0:
            print(f"error: {more} more are in {one_line(str(out / name))}", file=sys.stderr)
        write(out / name, ("\n".join(self._failed) + "\n").encode())


def _some(names: list[str]) -> str:
    """Returns how many pictures these are, and the first of them."""
    if len(names) == 1:
        return one_line(names[0])
    return f"{len(names)} pictures, the first {one_line(names[0])}"


def class_table(label_set: LabelSet) -> str:
    """Returns a line a class: index, name, plain words, colour, and whose left or right it is.

    Args:
      label_set: the classes.
    """
    sides = dict.fromkeys(range(label_set.num_classes), "")
    for pair in label_set.mirror_pairs:
        names = [label_set.classes[label] for label in pair]
        left = left_of(*names)
        for label, name in zip(pair, names, strict=True):
            side = "left or right" if left is None else "left" if name == left else "right"
            sides[label] = f"the {label_set.left_is}'s {side}"
    rows = [
        (index, name, plain, f"#{bytes(colour).hex()}", side)
        for index, name, plain, colour, side in zip(
            range(label_set.num_classes),
            label_set.classes,
            label_set.plain_names,
            label_set.palette,
            sides.values(),
            strict=True,
        )
    ]
    headers = ["index", "name", "in words", "colour", "side"]
    table = tabulate.tabulate(rows, headers, disable_numparse=True)
    return f"{table}\n{label_set.convention}"
