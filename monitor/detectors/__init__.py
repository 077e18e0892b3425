"""Detectors: from closed blocks to evidence. To add one, see CONTRIBUTING.md."""

from monitor.config import DetectorKind, DetectorSpec
from monitor.detectors.base import Block, Detector, Evidence, Status
from monitor.detectors.drift import DriftDetector
from monitor.detectors.tolerance import ToleranceDetector

__all__ = ["Block", "Detector", "Evidence", "Status", "make_detector"]


def make_detector(spec: DetectorSpec) -> Detector:
    """The detector of a specification."""
    match spec.kind:
        case DetectorKind.TOLERANCE:
            return ToleranceDetector()
        case DetectorKind.ADWIN | DetectorKind.PAGE_HINKLEY:
            return DriftDetector(spec)
