"""Which samples a training has learnt from, as its workers noted it in a folder."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

Steps = Mapping[int, list[str]]
"""Names of the samples, by step."""


@dataclass(frozen=True)
class Trace:
    """The folder of REDACTION_TRAINING_TRACE: a file for each worker each time that it starts."""

    folder: Path

    @property
    def reached(self) -> int:
        """The highest number of steps that any worker has taken."""
        return max((max(steps) + 1 for _, steps in self._files() if steps), default=0)

    @property
    def starts(self) -> int:
        """How often the first worker has begun to learn."""
        return sum(rank == 0 and bool(steps) for rank, steps in self._files())

    def workers(self, batch_size: int) -> int:
        """Give how many workers there were when last a whole batch was learnt from; 0: never."""
        *_, last = (0, *(world for world, _ in self._attempts(batch_size)))
        return last

    def last_seen(self, batch_size: int) -> Steps:
        """Give what each step has learnt from; where it was taken again, the last time counts.

        A whole batch must fall into equal shares for any number of workers that there were.
        """
        found: dict[int, list[str]] = {}
        for _, steps in self._attempts(batch_size):
            found |= steps
        return found

    def _attempts(self, batch_size: int) -> Iterator[tuple[int, Steps]]:
        """Give number of workers, and what they noted together, of each start of all of them."""
        world, ranks, steps = 0, set[int](), defaultdict[int, list[str]](list)
        for rank, noted in self._files():
            if not noted:
                continue
            of = batch_size // max(map(len, noted.values()))
            if ranks and (of != world or rank in ranks):
                yield world, steps
                ranks, steps = set(), defaultdict(list)
            world, ranks = of, ranks | {rank}
            for step, names in noted.items():
                steps[step] += names
        if ranks:
            yield world, steps

    def _files(self) -> Iterator[tuple[int, Steps]]:
        """Give rank and notes of each worker, in the order in which they started."""
        paths = self.folder.glob("*.txt") if self.folder.is_dir() else ()
        for path in sorted(paths, key=lambda path: int(path.stem.partition("-")[0])):
            steps = defaultdict[int, list[str]](list)
            # The last line may be half of one, where its writer was killed.
            for line in path.read_text().split("\n")[:-1]:
                step, _, name = line.partition(" ")
                steps[int(step)].append(name)
            yield int(path.stem.partition("-")[2]), steps
