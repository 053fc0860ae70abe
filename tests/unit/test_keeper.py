"""What the driver hears of a training, and when it is given up."""

import pytest

from jobs._keeper import STARTS, Keeper, Verdict, describe_epoch, describe_progress
from redaction_core.errors import CheckpointError, RedactionCoreError, StorageError, UsageError

PROGRESS = {
    "epoch": 2,
    "epochs": 3,
    "step": 7,
    "steps": 12,
    "loss": 0.03456789,
    "images_per_s": 75.4,
    "seconds_left": 61.0,
    "workers": 1,
}
FIGURES = {"mae": 0.02, "mse": 0.1, "psnr": 30.0, "ssim": 0.9}
WITHOUT = {"bicubic_mae": 0.03, "baseline_mae": 0.04, "baseline_mse": 0.2}


def test_news_are_heard_once_and_in_order() -> None:
    keeper = Keeper()
    keeper.tell({"say": "one"})
    keeper.tell(PROGRESS)
    keeper.tell({"say": "two"})

    news = keeper.hear()

    assert [event["say"] for event in news.events] == ["one", "two"]
    assert news.progress == PROGRESS
    assert not keeper.hear().events
    assert keeper.hear().progress is None


def test_progress_of_before_an_epoch_ended_is_not_told_after_it() -> None:
    keeper = Keeper()
    keeper.tell(PROGRESS)
    keeper.tell({"validated": {}, "best": True})

    assert keeper.hear().progress is None


def test_workers_are_up_from_their_start_to_their_failure() -> None:
    keeper = Keeper()
    assert not keeper.hear().up

    keeper.start(0)
    assert keeper.hear().up
    assert keeper.hear().up

    keeper.fail(Verdict.of(RuntimeError("a peer died")), final=False)
    assert not keeper.hear().up


def test_the_end_is_heard_again_and_again() -> None:
    keeper = Keeper()
    keeper.tell({"finished": True})

    assert keeper.hear().finished
    assert keeper.hear().finished


def test_starts_without_a_new_checkpoint_come_to_an_end() -> None:
    keeper = Keeper()
    assert all(keeper.start(0) for _ in range(STARTS))
    keeper.fail(Verdict(kind="bug", text="a peer went away", trace="..."), final=False)

    assert not keeper.start(0)
    assert not keeper.start(1)
    verdict = keeper.hear().verdict
    assert verdict is not None
    assert "before a new checkpoint; the last time: a peer went away" in verdict.text


def test_a_new_checkpoint_makes_starts_count_anew() -> None:
    keeper = Keeper()
    for step in range(3 * STARTS):
        assert keeper.start(0)
        keeper.tell({"saved": step})
    for _ in range(STARTS - 1):
        assert keeper.start(0)
        keeper.tell({"saved": 1})  # an old one, read again

    assert not keeper.start(0)


def test_starts_after_the_loss_of_a_machine_are_no_workers_fault() -> None:
    keeper = Keeper()
    assert all(keeper.start(0, lost=lost) for lost in range(3 * STARTS))
    assert all(keeper.start(0, lost=3 * STARTS) for _ in range(STARTS))
    assert not keeper.start(0, lost=3 * STARTS)


def test_workers_that_take_their_machines_down_come_to_an_end() -> None:
    keeper = Keeper()
    started = [keeper.start(0, lost=lost) for lost in range(20 * STARTS)]
    assert started.count(True) == 10 * STARTS
    assert not started[-1]


def test_only_the_first_worker_counts_as_a_start() -> None:
    keeper = Keeper()

    assert all(keeper.start(rank) for rank in (0, *range(1, 3 * STARTS)))
    assert not keeper.hear().events


def test_workers_that_were_started_anew_are_told_of() -> None:
    keeper = Keeper()
    keeper.start(0)
    keeper.start(0)

    assert keeper.hear().events == [{"say": "workers were started anew"}]


def test_the_first_final_verdict_stands() -> None:
    keeper = Keeper()
    for text in ("first", "second"):
        keeper.fail(Verdict(kind="StorageError", text=text), final=True)

    verdict = keeper.hear().verdict
    assert verdict is not None
    assert verdict.text == "first"
    assert not keeper.start(0)


@pytest.mark.parametrize("kind", [RedactionCoreError, StorageError, UsageError, CheckpointError])
def test_errors_on_purpose_reach_the_driver_as_they_were(kind: type[RedactionCoreError]) -> None:
    verdict = Verdict.of(kind("one line"))

    assert type(verdict.error()) is kind
    assert str(verdict.error()) == "one line"


def test_a_bug_reaches_the_driver_with_its_trace() -> None:
    nothing: dict[str, int] = {}
    try:
        nothing["unforeseen"]
    except KeyError as error:
        verdict = Verdict.of(error)

    assert isinstance(verdict.error(), RuntimeError)
    assert "test_keeper.py" in str(verdict.error())
    assert "unforeseen" in verdict.text
    assert "\n" not in verdict.text


def test_too_little_memory_says_what_to_do() -> None:
    verdict = Verdict.of(MemoryError())

    assert isinstance(verdict.error(), UsageError)
    assert "--batch-size" in verdict.text


def test_progress_is_one_line() -> None:
    line = describe_progress(PROGRESS)

    assert line.startswith("train: epoch 2 of 3, step 7 of 12, loss 0.03457, 75 images/s, ")
    assert "2 workers" in describe_progress(PROGRESS | {"workers": 2})
    assert "loss -" in describe_progress(PROGRESS | {"loss": None})


def test_an_epoch_is_told_beside_what_needs_no_network() -> None:
    hidden = FIGURES | WITHOUT | {"bicubic_mae": None}
    rows = {"pixelate:4": FIGURES | WITHOUT, "box:4x4@center": hidden}
    epoch = {"epoch": 3, "val": {"loss": 0.5, "redactions": rows}}

    line = describe_epoch(epoch, best=True)

    assert line.startswith("train: epoch 3 done, validation loss 0.5 (best); ")
    assert "pixelate:4 mae 0.0200 (without a network 0.0300)" in line
    assert "box:4x4@center mse 0.1000 (without a network 0.2000)" in line
    assert "validation loss none" in describe_epoch(
        {"epoch": 1, "val": {"loss": None, "redactions": {}}}, best=False
    )


def test_an_error_after_the_end_of_the_group_may_be_a_peers() -> None:
    import torch.distributed

    from jobs._training import _may_be_a_peers

    bug = ValueError("no such field")
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        assert not _may_be_a_peers(bug)
        assert _may_be_a_peers(RuntimeError("connection closed by peer"))
    finally:
        torch.distributed.destroy_process_group()
    assert _may_be_a_peers(bug)
