"""Makes confidence.json: random answers through the packages that publish the measures of confidence.

pip install uncertainty-calibration==0.1.4 torch-uncertainty==0.13.0 scikit-learn==1.9.1
python tests/golden/make_confidence.py
"""

from __future__ import annotations

import json
from pathlib import Path

import calibration
import numpy as np
import torch
from torch_uncertainty.metrics.classification.risk_coverage import RiskAtxCov, _aurc_rejection_rate_compute

BINS = 15


def equal_mass(sure: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """The error in bins of equally many, by the package of Kumar et al. 2019; labels of one class."""
    return {"ece": float(calibration.get_ece_em(sure, right.astype(int), num_bins=BINS))}


def selective(sure: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """Mean of the risk curve of torch-uncertainty, and 1 less its risk at 80 % coverage."""
    curve = _aurc_rejection_rate_compute(torch.tensor(sure), torch.tensor(1.0 - right, dtype=torch.float64))
    at = RiskAtxCov(0.8)
    at.scores, at.errors = [torch.tensor(sure)], [torch.tensor(1.0 - right, dtype=torch.float64)]
    return {"aurc": float(curve.mean()), "accuracy_80": 1.0 - float(at.compute())}


def main() -> None:
    rng, cases = np.random.default_rng(0), []
    for n in (60, 150, 600):  # divisible by the bins and by five
        for tilt in (-0.2, 0.0, 0.1):
            sure = np.unique(np.round(rng.beta(4, 1.5, 8 * n), 6))
            sure = rng.permutation(sure)[:n]
            right = (rng.random(n) < np.clip(sure + tilt, 0, 1)).astype(float)
            case = {"sure": sure.tolist(), "right": right.astype(int).tolist()}
            cases.append(case | equal_mass(sure, right) | selective(sure, right))
    text = json.dumps({"cases": cases}).replace('{"sure"', '\n{"sure"')
    (Path(__file__).parent / "confidence.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
