"""What a verb tells those that run it, on the driver and on the workers; known without Ray."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from redaction_core.commits import Layout
from redaction_core.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from redaction_core.commits import Run
    from redaction_core.errors import InputError
    from redaction_core.plan import PlannedInput
    from redaction_core.storage import Store

ESTIMATE = (
    "Results are statistical estimates made by a network, "
    "not evidence of who or what was in the pictures."
)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Outcome(Protocol):
    """What became of some inputs."""

    @property
    def tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """The rows of every table, in order; every input has a row in one of them."""

    @property
    def failed(self) -> Mapping[str, str]:
        """Keys of the inputs without a result, and why."""

    @property
    def totals(self) -> Totals:
        """What the rows add up to."""


class Work(Protocol):
    """What a verb does with the inputs of a shard."""

    def run(self, inputs: Sequence[PlannedInput]) -> Outcome:
        """Do them all; with `at_once`, called from several threads."""

    def failure(self, item: PlannedInput, error: InputError) -> Outcome:
        """Give the outcome of an input that could not be tried."""


@dataclass(frozen=True, kw_only=True)
class Verb:
    """All that a worker must know; goes to it by pickle."""

    name: str
    """Of the verb, as metrics and logs have it."""
    output: Store
    open_work: Callable[[bool], Work]
    """Called once a worker, with True where the worker has a GPU."""
    tables: Mapping[str, pa.Schema]
    """Folders of Parquet parts, and what is in them; a shard has a part where it has rows."""
    companions: tuple[str, ...] = ()
    """Folders with a PNG file an image, `companion_key`."""
    at_once: int = 1
    """Shards that a worker works on at the same time, for work that mostly waits."""


class Cluster(Protocol):
    """The Ray cluster, as far as a last pass needs it."""

    def map(
        self, function: Callable[[_Item], _Result], items: Iterable[_Item]
    ) -> Iterator[_Result]:
        """Call a function of an importable module with each item, somewhere; in any order."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a run adds up to: its summary, of JSON values, and the parts that make it up."""

    summary: Mapping[str, Any]
    """With `inputs` and `failed` at least."""
    parts: Collection[str] | None = None
    """None: those that the commits name."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One verb with its inputs, ready to run."""

    source: str
    """Location of the inputs."""
    listed: Callable[[Iterable[PlannedInput]], Iterator[PlannedInput]]
    """Lists the inputs by key, given those of earlier rounds; called more than once."""
    config: Mapping[str, Any]
    """What changes the bytes of the output, as JSON values."""
    shards: Verb
    guess_s: Callable[[], float]
    """Measures roughly how long one input takes on one worker."""
    least_s: Callable[[], float] | None = None
    """Tells roughly how long all inputs take, however many workers there are."""
    layout: Layout = field(default_factory=Layout)
    on_cluster: Callable[[Verb], Verb] | None = None
    """Completes what workers are told once the cluster is there, such as with a handle to it."""
    retry: Callable[[Run], Iterator[PlannedInput]] | None = None
    """Inputs that failed and are to be tried again, once no shard is left undone."""
    last_pass: Callable[[Run, Cluster], Finished] | None = None
    """What is made of all commits at the end, if it is more than adding up their totals."""
    details: tuple[str, ...] = ()
    """Of the summary, what is too long for the closing line, which names the file instead."""
    failures_table: str = "metrics"
    """Folder of the output that says what failed."""
    gets_of_one: int = 1
    """Requests that read what belongs to one input, its own file among it, in storage."""
    puts_of_one: int = 0
    """Requests that write files of one input's own."""
    note: str = ESTIMATE
    """What everybody who opens the output should know."""

    @property
    def verb(self) -> str:
        """Its name."""
        return self.shards.name

    @property
    def outputs(self) -> Store:
        """Where the run lies."""
        return self.shards.output


def summed_up(run: Run) -> dict[str, Any]:
    """Add up the commits; what Ray returned counts for nothing."""
    totals = Totals()
    for commit in run.commits():
        totals.add(Totals.of_json(commit.totals))
    return {
        "inputs": totals.inputs,
        "ok": totals.inputs - totals.failed,
        "failed": totals.failed,
        "failures": dict(sorted(totals.failures.items())),
        "means": {name: float(f"{mean:.6g}") for name, mean in totals.means().items()},
    }
