"""The main job on real scenes: a section per task, each in one file of `demo.sections`."""

from torchspectral.demo.runner import run_demo, sections

__all__ = ["run_demo", "sections"]
