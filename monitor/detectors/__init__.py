"""Detectors: from closed blocks to evidence. To add one, see CONTRIBUTING.md."""

from monitor.budget import Allowance
from monitor.config import DetectorKind, DetectorSpec
from monitor.detectors.base import Block, Detector, Evidence, Status
from monitor.detectors.drift import DriftDetector
from monitor.detectors.e_detector import EDetector, Together
from monitor.detectors.tolerance import ToleranceDetector

__all__ = ["Block", "Detector", "EDetector", "Evidence", "Status", "Together", "make_detector"]


def make_detector(spec: DetectorSpec, allowance: Allowance) -> Detector:
    """The detector of a specification, with what it may spend of the false-alarm budget."""
    match spec.kind:
        case DetectorKind.TOLERANCE:
            return ToleranceDetector()
        case DetectorKind.E_DETECTOR:
            return EDetector(spec, allowance)
        case DetectorKind.ADWIN | DetectorKind.PAGE_HINKLEY | DetectorKind.KSWIN | DetectorKind.HDDM:
            return DriftDetector(spec)
