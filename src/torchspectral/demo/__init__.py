"""The main job on real scenes: a section per task, each in one file of `demo.sections`."""

from torchspectral.demo.runner import find_sections, run_demo

__all__ = ["find_sections", "run_demo"]
