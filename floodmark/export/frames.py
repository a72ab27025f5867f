"""A run for notebooks: its verdicts as they are, its tables as data frames of pandas."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from floodmark.errors import FloodmarkError, RunError, did_you_mean
from floodmark.export.database import SAMPLED, ask
from floodmark.model.run import RunRecord
from floodmark.model.verdict import Verdict
from floodmark.runs.folders import RunFolder, find_run
from floodmark.runs.verdicts import read_verdicts

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """One complete run.

    Attributes:
        folder: where it is.
        record: run.json: the case as resolved, parameters, hosts, versions, phases.
        verdicts: host -> validity, expectations, claims and key figures.
    """

    folder: RunFolder
    record: RunRecord
    verdicts: dict[str, Verdict]

    @property
    def tables(self) -> list[str]:
        """Names of the tables that the run has."""
        return [name for name in SAMPLED if any(self.folder.path.glob(f"*/{name}.parquet"))]

    def need(self, table: str) -> str:
        """Return the name of a table that the run has.

        Raises:
            RunError: it has none of that name.
        """
        if table not in self.tables:
            hint = did_you_mean(table, self.tables)
            raise RunError(f"run {self.folder.run_id} has no table '{table}': {hint}It has {', '.join(self.tables)}.")
        return table

    def frame(self, table: str) -> pd.DataFrame:
        """Return a table of all hosts of the run, with the columns `run` and `host` in front.

        Args:
            table: its name in the data dictionary.

        Returns:
            A row for each reading or request. Times are ns on the host's monotonic clock; what was not seen is NaN.

        Raises:
            FloodmarkError: the run has no such table, or pandas is not installed.
        """
        if find_spec("pandas") is None:
            raise FloodmarkError("data frames need pandas, which is not installed here: pip install pandas")
        return ask(f"FROM {self.need(table)}", [self.folder.path]).df()


def load(name: str | Path = "latest") -> Run:
    """Return a run, for notebooks.

    Args:
        name: of a folder below results/, a path, or `latest`.

    Raises:
        RunError: there is no such run, or it is not complete.
    """
    folder = find_run(str(name))
    return Run(folder, folder.read_run(), {one.host: one for one in read_verdicts(folder)})
