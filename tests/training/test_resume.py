"""A resumed run equals an uninterrupted run; invalid checkpoints are refused."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from recording import RecordingLogger, modified, parameters

import bp_torch.functional as F
from bp_torch import nn
from bp_torch.data import Dataset
from bp_torch.engine import Backprop
from bp_torch.training.backends import Autograd, Backend
from bp_torch.training.config import TrainConfig
from bp_torch.training.logging.events import AgreementEvent, EpochEvent, FrameEvent, NoiseEvent, StepEvent
from bp_torch.training.loop import Trainer
from bp_torch.training.state import run
from bp_torch.training.state.run_dir import BEST, CHECKPOINT, CONFIG, FAILURE, RunError, State, pack, unpack, write_json


@pytest.mark.parametrize(
    ("backend", "steps"),
    [("functions", (1, 2, 3, 7, 9, 10, 11, 14, 18, 19, 20)), ("engine", (1, 10, 13)), ("builtin", (1, 10, 13))],
)
def test_a_run_resumed_from_any_step_equals_the_uninterrupted_run(
    small_digits: Dataset, backend: Any, steps: Any
) -> None:
    """Parameters and costs are equal bit for bit; the steps include the ends of epochs."""
    config = TrainConfig(epochs=2, backend=backend, compare_every=6, frames=3)
    trainer, states = Trainer(config, small_digits, [uninterrupted := RecordingLogger()]), dict[int, bytes]()

    def save() -> None:
        states[trainer.step] = pack(trainer.state())

    summary = trainer.run(save)
    assert list(states) == list(range(1, 21))
    for step in steps:
        torch.rand(7)  # a change of the random state
        state = unpack(states[step])
        again = Trainer(config, small_digits, [rest := RecordingLogger()])
        again.load_state(state)
        assert torch.equal(torch.get_rng_state(), state.tensors["random.cpu"])
        result = again.run()
        assert all(torch.equal(a, b) for a, b in zip(parameters(trainer), parameters(again), strict=True))
        assert {k: v for k, v in result.items() if "second" not in k} == {
            k: v for k, v in summary.items() if "second" not in k
        }
        costs = [event.cost for event in uninterrupted.of_type(StepEvent) if event.step >= step]
        assert [event.cost for event in rest.of_type(StepEvent)] == costs
        counts = [
            (event.compared, event.failed) for event in uninterrupted.of_type(AgreementEvent) if event.step >= step
        ]
        assert [(event.compared, event.failed) for event in rest.of_type(AgreementEvent)] == counts
        scales = [(event.scale, event.scales) for event in uninterrupted.of_type(NoiseEvent) if event.step >= step]
        assert [(event.scale, event.scales) for event in rest.of_type(NoiseEvent)] == scales
        evaluated = [event for event in uninterrupted.of_type(EpochEvent) if event.step >= step]
        assert rest.of_type(EpochEvent) == evaluated


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("of", [Autograd, Backprop])
def test_the_optimizers_state_is_restored(of: type[Autograd | Backprop], kind: Any) -> None:
    """Compare three steps, a checkpoint and three more steps with six steps of torch.optim."""
    options = {"momentum": 0.9, "weight_decay": 0.1} if kind is torch.optim.SGD else {"weight_decay": 0.1}
    step = f"{kind.__name__.lower()}_step"
    torch.manual_seed(0)
    batches = [(torch.rand(8, 5).double(), torch.rand(8, 3).double()) for _ in range(6)]
    start = nn.mlp((5, 4, 3)).state_dict()

    def backend() -> Backend:
        model = nn.mlp((5, 4, 3)).double()
        model.load_state_dict(start)
        return of(model, F.squared_error, **options)

    first, second, reference = backend(), backend(), torch.nn.Sequential(*nn.as_builtin(backend().model))
    optimizer = kind(reference.parameters(), lr=0.5, **options)
    for batch in batches[:3]:
        getattr(first, step)(*batch, 0.5)
    state = unpack(pack(State({}, {f"optimizer.{name}": tensor for name, tensor in first.state_dict().items()})))
    second.model.load_state_dict(first.model.state_dict())
    second.load_state_dict(state.group("optimizer"))
    for batch in batches[3:]:
        getattr(second, step)(*batch, 0.5)
    for inputs, targets in batches:
        optimizer.zero_grad()
        ((reference(inputs) - targets) ** 2).sum(1).mean().backward()
        optimizer.step()
    torch.testing.assert_close(list(second.model.parameters()), list(reference.parameters()))
    for name in ("hidden1.weight", "hidden1.weight.exp_avg", "hidden1.weight.step", "hidden1.exp_avg", "step"):
        with pytest.raises(ValueError, match=f"no state '{re.escape(name)}' of shape"):
            second.load_state_dict({name: torch.zeros(3)})


@pytest.mark.parametrize(
    "damage",
    [
        {"step": -3}, {"step": math.inf}, {"step": 1.5}, {"step": 10**9}, {"step": "0"}, {"step": None}, {"step": True},
        {"gradient_checks": -1}, {"gradient_checks_passed": 7}, {"worst_gradient_ratio": math.nan}, {"seconds": -1.0},
        {"seconds": math.nan}, {"best": 3}, {"best": [0.5]}, {"best": [0.5, "3"]}, {"best": None},
        {"noise": 3}, {"noise": {"": [1.0]}}, {"noise": {"": [1.0, "2"]}}, {"noise": {"": [1.0, math.nan]}},
        {"evaluated": 3}, {"evaluated": {"epoch": -3}}, {"evaluated": {"nothing": 3}},
    ],
    ids=str,
)  # fmt: skip
def test_an_invalid_state_is_refused(small_digits: Dataset, damage: dict[str, Any]) -> None:
    trainer = Trainer(TrainConfig(epochs=1, run_name="a"), small_digits)
    state = unpack(pack(trainer.state()))
    with pytest.raises(RunError, match=r"cannot resume 'a': its checkpoint\.safetensors does not fit its config\.json"):
        run.restore(trainer, State({**state.values, **damage}, state.tensors))


def test_a_finished_run_without_evaluation_or_with_infinite_weights_is_refused(small_digits: Dataset) -> None:
    trainer = Trainer(TrainConfig(epochs=1, run_name="a"), small_digits)
    infinite = {"parameters.hidden1.weight": trainer.state().tensors["parameters.hidden1.weight"] / 0}
    for damage in ({"step": trainer.steps}, infinite):
        with pytest.raises(RunError, match=r"cannot resume 'a': its checkpoint\.safetensors does not fit its config"):
            run.restore(trainer, modified(trainer.state(), **damage))


@pytest.fixture
def stopped(small_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run without frames, stopped before its first step."""
    monkeypatch.setattr(run, "load", lambda *_, **__: small_digits)
    config = TrainConfig(epochs=1, runs_dir=tmp_path, run_name="stopped", frames=0, data="digits", threads=3)
    (tmp_path / "stopped").mkdir()
    (tmp_path / "stopped" / CHECKPOINT).write_bytes(pack(Trainer(config, small_digits).state()))
    write_json(tmp_path / "stopped" / CONFIG, config.as_dict())
    return tmp_path


@pytest.mark.parametrize(("flags", "frames"), [({}, []), ({"frames": 7}, [0, 1, 2, 3, 4, 6, 9])])
def test_a_run_is_resumed_with_its_own_settings_unless_a_flag_changes_them(
    stopped: Path, flags: dict[str, int], frames: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with its number of threads, which affects rounding."""
    logger, threads = RecordingLogger(), list[int]()
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    result = run.train(TrainConfig(runs_dir=stopped, resume="stopped", **flags), lambda *_: [logger])  # type: ignore[arg-type]
    assert result.summary["epochs"] == 1
    assert logger.steps(FrameEvent) == frames
    assert threads == [3]


def test_a_trained_model_is_loaded_from_its_folder(stopped: Path, small_digits: Dataset) -> None:
    config, model = run.load_trained(stopped / "stopped")
    assert config.threads == 3
    expected = Trainer(config, small_digits).model.state_dict()
    assert all(torch.equal(parameter, expected[name]) for name, parameter in model.state_dict().items())


def numbered(state: State) -> State:
    """A state of an earlier version, with module numbers instead of names, and without noise averages."""
    numbers = {"hidden1": "0", "hidden2": "2", "output": "4"}
    parts = [(name.split("."), tensor) for name, tensor in state.tensors.items()]
    values = {name: value for name, value in state.values.items() if name != "noise"}
    return State(values, {".".join(numbers.get(part, part) for part in name): t for name, t in parts})


def test_checkpoints_of_numbered_modules_are_read(stopped: Path, small_digits: Dataset) -> None:
    """The last, best and failed checkpoints: to resume, load and replay."""
    folder, states = stopped / "stopped", list[State]()
    trainer = Trainer(run.run_dir.load_config(folder), small_digits)
    trainer.run(lambda: states.append(unpack(pack(trainer.state()))))
    failed = {**states[2].values, "failed_step": 3, "what": "the cost is not finite"}
    files = {
        CHECKPOINT: states[3],
        BEST: states[-1],
        FAILURE: State(failed, {**states[2].tensors, "examples": trainer.batches.examples(0, 3).cpu()}),
    }
    for name, state in files.items():
        (folder / name).write_bytes(pack(numbered(state)))
    assert "parameters.2.bias" in unpack((folder / CHECKPOINT).read_bytes()).tensors
    _, best = run.load_trained(folder / BEST)
    torch.testing.assert_close(list(best.parameters()), list(trainer.model.parameters()), rtol=0, atol=0)
    table, again = run.replay(TrainConfig(runs_dir=stopped, replay="stopped"))
    assert "at step 3" in table
    assert not again
    run.train(TrainConfig(runs_dir=stopped, resume="stopped"), lambda *_: [], "")
    resumed = unpack((folder / CHECKPOINT).read_bytes()).group("parameters")
    torch.testing.assert_close(resumed, dict(trainer.model.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("backend", ["functions", "builtin"])
def test_momentum_of_numbered_modules_is_read(small_digits: Dataset, backend: Any) -> None:
    trainer = Trainer(TrainConfig(epochs=1, backend=backend), small_digits)
    momentum = {name: torch.randn_like(parameter) for name, parameter in trainer.model.named_parameters()}
    tensors = {f"optimizer.{name}": tensor for name, tensor in momentum.items()}
    trainer.load_state(numbered(modified(trainer.state(), **tensors)))
    torch.testing.assert_close(trainer.backend.state_dict(), momentum)


def test_a_name_and_a_number_of_one_layer_are_refused(small_digits: Dataset) -> None:
    trainer = Trainer(TrainConfig(epochs=1), small_digits)
    both = modified(trainer.state(), **{"parameters.0.bias": torch.zeros(16)})
    with pytest.raises(ValueError, match="unexpected tensors"):
        trainer.load_state(both)
