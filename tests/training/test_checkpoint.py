import json
from pathlib import Path

import pytest
import torch

from bp_torch.training.checkpoint import load_checkpoint, load_config, packed, save_checkpoint
from bp_torch.training.folder import CHECKPOINT, CONFIG, RunError, create_run, require_free, write_json
from bp_torch.training.config import TrainConfig

STATE = {"parameters": {"weight": torch.ones(2, 3)}, "epoch": 7}


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    config = TrainConfig(run_name=tmp_path.name)
    write_json(tmp_path / CONFIG, config.as_dict())
    save_checkpoint(tmp_path, STATE)
    stored, checkpoint = load_run(tmp_path)
    assert stored == config
    assert checkpoint["epoch"] == 7
    assert torch.equal(checkpoint["parameters"]["weight"], torch.ones(2, 3))
    assert sorted(path.name for path in tmp_path.iterdir()) == [CHECKPOINT, CONFIG]


def test_a_failed_write_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, STATE)
    kept = (tmp_path / CHECKPOINT).read_bytes()

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tmp_path, {**STATE, "epoch": 8})
    assert (tmp_path / CHECKPOINT).read_bytes() == kept


@pytest.mark.parametrize("damaged", [CONFIG, CHECKPOINT])
@pytest.mark.parametrize("content", [b"", b"[1]", b"not it at all"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, damaged: str, content: bytes) -> None:
    write_json(tmp_path / CONFIG, TrainConfig().as_dict())
    save_checkpoint(tmp_path, STATE)
    (tmp_path / damaged).write_bytes(content)
    with pytest.raises(RunError, match="a file in it is damaged") as caught:
        load_run(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "ran"),)

    write_json(tmp_path / CONFIG, TrainConfig().as_dict())
    torch.save({"parameters": Evil(), "epoch": 1}, tmp_path / CHECKPOINT)
    with pytest.raises(RunError, match="damaged"):
        load_run(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_overwriting_removes_what_a_run_left_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    create_run(folder, overwrite=False)
    (folder / "projector").mkdir()
    embeddings = ("projector_config.pbtxt", "projector/step_00600_3.ReLU_digits.tsv", "projector/digits_0.png")
    for name in (CONFIG, CHECKPOINT, "events.out.tfevents.1", "notes.txt", *embeddings):
        (folder / name).write_text("old")
    with pytest.raises(RunError, match="exists"):
        require_free(folder)
    with pytest.raises(RunError, match="File exists"):
        create_run(folder, overwrite=False)
    create_run(folder, overwrite=True)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_overwriting_leaves_what_is_not_ours_among_the_embeddings(tmp_path: Path) -> None:
    others = [tmp_path / "projector" / name for name in ("mine.tsv", "sprite.png")]
    others[0].parent.mkdir()
    for path in (*others, tmp_path / "projector" / "step_00600_3.ReLU_digits.tsv"):
        path.write_text("old")
    create_run(tmp_path, overwrite=True)
    assert sorted((tmp_path / "projector").iterdir()) == others


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("")
    with pytest.raises(RunError, match="occupied"):
        create_run(tmp_path / "occupied" / "run", overwrite=False)


def test_json_is_written_for_people(tmp_path: Path) -> None:
    write_json(tmp_path / CONFIG, {"σ": 1})
    text = (tmp_path / CONFIG).read_text(encoding="utf-8")
    assert text == '{\n  "σ": 1\n}\n'
    assert json.loads(text) == {"σ": 1}


def test_json_has_null_for_what_is_not_finite(tmp_path: Path) -> None:
    write_json(tmp_path / CONFIG, {"worst": float("inf"), "cost": float("nan")})
    assert json.loads((tmp_path / CONFIG).read_text()) == {"worst": None, "cost": None}
