"""Tags are distinct, and cost nothing to import."""

import subprocess
import sys

from bp_torch.dashboard import tags


def test_tags_are_distinct_and_grouped() -> None:
    constants = [value for name, value in vars(tags).items() if name.isupper() and isinstance(value, str)]
    made = [
        *(tags.agreement(figure, "p") for figure in tags.AGREEMENT_FIGURES),
        *(tags.noise(figure, "p") for figure in tags.NOISE_FIGURES),
        *(tags.health(figure, "p") for figure in tags.HEALTH_FIGURES),
        *(
            make("p")
            for make in (tags.noise_scale, tags.weights, tags.gradients, tags.activations, tags.experiment_picture)
        ),
        *(make("e", "p") for make in (tags.experiment, tags.experiment_curve)),
    ]
    assert len({*constants, *made}) == len(constants) + len(made)
    groups = {tag.split("/")[0] for tag in [*constants, *made]}
    measured = {"learning", "agreement", "noise", "health", "weights", "gradients", "activations", "pictures"}
    assert groups == {*measured, "run", "checker", "experiments", "backprop"}


def test_neither_torch_nor_tensorboard_is_imported() -> None:
    heavy = "{'torch', 'tensorboard', 'numpy', 'matplotlib'} & sys.modules.keys()"
    script = f"import sys, bp_torch.dashboard.tags; print({heavy})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
