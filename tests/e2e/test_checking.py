"""`driftloop check` tries the model as training and serving will; what is wrong is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.test_errors import run
from tests.models import linear

SOURCE = """\
from pathlib import Path

from pydantic import BaseModel
from torch import nn

from streams.spec import *


class Order(BaseModel):
    id: str
    shopper: str
    amount: float
    at: float


{before}
pipeline = Pipeline(
    name="orders",
    event=Event(Order, id="id", key="shopper", time="at"),
    features=[Column("amount"), Count(key="shopper", over="1h")],
    model={model},
    feedback=Feedback(horizon="1d", missing=0),
)
"""
FAILS = """\
def network(features):
    layers = nn.Linear(features, 1)
    return layers.cuda_or_not()
"""
ODD = """\
class Odd(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.layer = nn.Linear(features, 1)

    def forward(self, x):
        if float(x.sum()) > 0:
            return self.layer(x)
        return -self.layer(x)
"""
LATE = """\
def late(features):
    from torch import nn

    class Odd(nn.Linear):
        def forward(self, x):
            return super().forward(x) if float(x.sum()) > 0 else -super().forward(x)

    return Odd(features, 1)
"""
FIXED = """\
class Fixed(nn.Module):
    def __init__(self, features):
        super().__init__()

    def forward(self, x):
        return x[:, :1]
"""

FITS = """\
def fit(training):
    return training.features.onnx


def margins():
    from sklearn.linear_model import SGDClassifier
    return SGDClassifier()
"""


def check(folder: Path, model: str, before: str = "", source: str = SOURCE) -> tuple[int, str]:
    """Exit code and standard error."""
    (folder / "orders.py").write_text(source.format(before=before, model=model))
    return run(folder, "check", "orders.py")


@pytest.mark.parametrize(
    ("model", "before", "expected"),
    [
        (
            "Model(network=network)",
            FAILS,
            [
                "orders.py, line 18",
                "'Linear' object has no attribute 'cuda_or_not'",
                "return a torch",
            ],
        ),
        (
            "Model(network=lambda features: nn.Linear(features, 2))",
            "",
            ["line 21: model.network: maps [2, 2] to [2, 2], expected [2, 1]", "set model.outputs"],
        ),
        (
            "Model(network=lambda f: nn.Sequential(nn.Linear(f, 1), nn.Sigmoid()))",
            "",
            ["model.network: ends in Sigmoid, which is put around it anyway", "return logits"],
        ),
        (
            "Model(network=exits)",
            "def exits(features):\n    raise SystemExit(0)\n",
            ["orders.py, line 17", "SystemExit"],
        ),
        ("Model(network=Fixed)", FIXED, ["model.network: learns nothing", "nn.Linear"]),
        (
            "Model(network=Odd)",
            ODD,
            ["orders.py, line 22: the network cannot be exported", "torch.where"],
        ),
        (
            'Model(onnx="gone.onnx")',
            "",
            ["orders.py: model.onnx: cannot read gone.onnx", "check the pipeline's model.onnx"],
        ),
        ('Model(onnx="other.onnx")', "", ["the ONNX file takes", "expected one input"]),
        (
            "Model(fit=fit)",
            FITS,
            ["orders.py, line 17: model.fit fails on [200, 2]", "no attribute 'onnx'"],
        ),
        (
            "Model(fit=Sklearn(margins))",
            FITS,
            ["orders.py, line 20: model.fit: SGDClassifier has no predict_proba"],
        ),
        (
            "Model(fit=XGBoost(max_dept=3))",
            "",
            ["model.fit.max_dept: is not used by XGBoost - did you mean max_depth?"],
        ),
    ],
    ids=[
        "fails",
        "shape",
        "sigmoid",
        "exits",
        "learns-nothing",
        "not-exported",
        "no-file",
        "other-features",
        "fit-fails",
        "no-probabilities",
        "unused",
    ],
)
def test_what_is_wrong_with_the_model_is_one_line(
    model: str, before: str, expected: list[str], tmp_path: Path
) -> None:
    (tmp_path / "other.onnx").write_bytes(linear(3))
    code, said = check(tmp_path, model, before)
    assert code == 1
    assert said.startswith("error: ")
    assert said.count("\n") == 1, said
    for part in expected:
        assert part in said


def test_a_network_is_tried_where_its_file_does_not_load_torch(tmp_path: Path) -> None:
    source = SOURCE.replace("from torch import nn\n", "")
    code, said = check(tmp_path, "Model(network=late)", LATE, source)
    assert code == 1
    assert said.startswith("error: orders.py, line 20: the network cannot be exported to ONNX")
    assert said.count("\n") == 1, said


@pytest.mark.parametrize("fit", ["XGBoost(n_estimators=9)", "LightGBM(early_stopping_rounds=4)"])
def test_trees_that_can_be_served_pass(fit: str, tmp_path: Path) -> None:
    assert check(tmp_path, f"Model(fit={fit})") == (0, "")


def test_a_model_that_works_passes(tmp_path: Path) -> None:
    code, said = check(tmp_path, "Model(network=lambda features: nn.Linear(features, 1))")
    assert (code, said) == (0, "")
    (tmp_path / "ready.onnx").write_bytes(linear(2))
    code, said = check(tmp_path, 'Model(onnx=Path("ready.onnx"))')
    assert (code, said) == (0, "")
