"""Sensors: band centres, widths, responses, MTF and panchromatic band of known instruments, one YAML file each.

Every number's origin and how far it can be trusted stand in the file (`Sensor.sources`). A product's own band centres
and widths always win over these.
"""

from __future__ import annotations

from torchspectral.sensors.catalog import get, list_sensors, match
from torchspectral.sensors.sensor import Pan, Sensor, Source, from_mapping, from_yaml

__all__ = ["Pan", "Sensor", "Source", "from_mapping", "from_yaml", "get", "list_sensors", "match"]
