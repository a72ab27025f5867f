"""What the playbooks show in the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from floodmark.model.lab import LabPoint, LabRecord
from floodmark.model.stored import save
from floodmark.runs.folders import LabFolder
from tests.conftest import load_file

callback = load_file("plugins/callback/floodmark.py")
POINT = LabPoint(point="as it is", varied={}, takes_s=1, run_id="20260101T000000Z-case3-unix-single-request")
RECORD = LabRecord(lab="single-request", question="What does one request do?", inventory="i", given={}, points=[POINT])


@pytest.mark.parametrize("judged", [False, True])
def test_a_lab_is_shown_when_its_points_were_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], judged: bool
) -> None:
    folder = LabFolder(tmp_path)
    save(folder.file, RECORD.model_copy(update={"table": [], "overall": []}) if judged else RECORD)
    module = callback.CallbackModule()
    module._lab = folder
    module.v2_playbook_on_stats(None)
    assert ("What does one request do?" in capsys.readouterr().out) is judged
