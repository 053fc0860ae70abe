"""MLflow, for those who have it: when it is installed and MLFLOW_TRACKING_URI is set."""

from __future__ import annotations

import importlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from redaction_core.training.history import figures_of_epoch
from redaction_core.training.tensorboard import plain_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from redaction_core.training.history import Epoch

URI: Final = "MLFLOW_TRACKING_URI"
_SETTINGS: Final = {
    # Else a server that is away is asked for minutes, and the end of a run waits.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    # Else the address of the run is printed, with the password that the URI may have.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""MLflow's own settings, where nothing else is set."""


class Tracking:
    """One run in MLflow. It never ends a training: it fails once, says so, and is silent then.

    MLflow is called in one thread of its own, where its run is the active one.
    """

    def __init__(
        self, name: str, parameters: Mapping[str, Any], say: Callable[[str], None]
    ) -> None:
        """Begin a run of that name, or do nothing where MLflow is not to be used."""
        self._say = say
        self._mlflow: Any = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mlflow")
        if os.environ.get(URI):
            self._thread.submit(self._try, lambda: self._begin(name, parameters))

    def epoch(self, epoch: Epoch) -> None:
        """Log the figures of an epoch."""
        metrics = {plain_name(name): value for name, value in figures_of_epoch(epoch).items()}
        self._call(lambda mlflow: mlflow.log_metrics(metrics, step=epoch.step))

    def close(self, *, finished: bool) -> None:
        """End the run, as finished or failed, and wait for it."""
        status = "FINISHED" if finished else "FAILED"
        self._call(lambda mlflow: mlflow.end_run(status))
        self._thread.shutdown()

    def _begin(self, name: str, parameters: Mapping[str, Any]) -> None:
        try:
            mlflow = importlib.import_module("mlflow")
        except ModuleNotFoundError:
            self._say(f"{URI} is set, but MLflow is not installed: nothing is logged there")
            return
        for key, value in _SETTINGS.items():
            os.environ.setdefault(key, value)
        mlflow.start_run(run_name=name)
        # From here on it is used, and ended.
        self._mlflow = mlflow
        mlflow.log_params({key: str(value)[:_LONGEST] for key, value in parameters.items()})

    def _call(self, use: Callable[[Any], object]) -> None:
        def call() -> None:
            if self._mlflow is not None:
                use(self._mlflow)

        self._thread.submit(self._try, call)

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever it raises, the training goes on
            self._mlflow = None
            # Its text may hold the URI, and so a password.
            kind = type(error).__name__
            self._say(f"MLflow failed ({kind}): training goes on, and no more is logged there")


_LONGEST: Final = 500
"""Letters of a parameter that every version of MLflow takes."""
