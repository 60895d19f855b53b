"""The folder of a run: its lock, files and overwriting."""

import json
from pathlib import Path

import pytest

from bp_torch.files import atomic_write
from bp_torch.training.state.run_dir import (
    CHECKPOINT,
    CONFIG,
    FAILURE,
    PREVIOUS,
    RunError,
    create_run,
    epochs_done,
    lock_run,
    require_free,
    write_json,
)


def test_overwriting_removes_only_the_files_of_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    create_run(folder, overwrite=False).release()
    files = (
        CONFIG,
        CHECKPOINT,
        PREVIOUS,
        FAILURE,
        f"{CHECKPOINT}.damaged",
        "checkpoint.pt",
        "events.out.tfevents.1",
        "events.out.damaged.1",
    )
    for name in (*files, "notes.txt"):
        (folder / name).write_text("old")
    with pytest.raises(RunError, match="exists"):
        require_free(folder)
    with pytest.raises(RunError, match="exists"):
        create_run(folder, overwrite=False)
    create_run(folder, overwrite=True).release()
    assert [path.name for path in folder.iterdir() if path.name != ".lock"] == ["notes.txt"]


def test_a_folder_is_locked_by_one_process_at_a_time(tmp_path: Path) -> None:
    lock = create_run(tmp_path / "run", overwrite=False)
    for overwrite in (False, True):
        with pytest.raises(RunError, match=r"run 'run' in .* is being trained by another process"):
            create_run(tmp_path / "run", overwrite=overwrite)
    lock.release()
    lock_run(tmp_path / "run").release()


def test_a_folder_that_is_missing_empty_or_has_only_a_lock_is_free(tmp_path: Path) -> None:
    require_free(tmp_path / "none")
    require_free(tmp_path)
    lock_run(tmp_path).release()
    require_free(tmp_path)


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("")
    with pytest.raises(RunError, match="occupied"):
        create_run(tmp_path / "occupied" / "run", overwrite=False)


def test_json_is_indented_utf8(tmp_path: Path) -> None:
    write_json(tmp_path / CONFIG, {"σ": 1})
    text = (tmp_path / CONFIG).read_text(encoding="utf-8")
    assert text == '{\n  "σ": 1\n}\n'
    assert json.loads(text) == {"σ": 1}


def test_json_has_null_for_numbers_that_are_not_finite(tmp_path: Path) -> None:
    write_json(tmp_path / CONFIG, {"worst": float("inf"), "cost": float("nan")})
    assert json.loads((tmp_path / CONFIG).read_text()) == {"worst": None, "cost": None}


def test_a_symbolic_link_at_the_temporary_name_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("unchanged")
    (tmp_path / f".{CONFIG}.new").symlink_to(tmp_path / "other")
    write_json(tmp_path / CONFIG, {"seed": 3})
    assert (tmp_path / "other").read_text() == "unchanged"
    assert not (tmp_path / CONFIG).is_symlink()


def test_without_hard_links_the_previous_checkpoint_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    for content in (b"1", b"2", b"3"):
        atomic_write(tmp_path / CHECKPOINT, content, backup=tmp_path / PREVIOUS)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {CHECKPOINT: b"3", PREVIOUS: b"2"}


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"epochs": "x"}', '{"epochs": -1}', '{"epochs": NaN}', '{"epochs": Infinity}']
)
def test_a_damaged_summary_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    assert epochs_done(tmp_path) is None
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(RunError, match=r"^cannot read run .*: its summary\.json is damaged \(.*\)$"):
        epochs_done(tmp_path)
