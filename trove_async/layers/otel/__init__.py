"""Observing by OpenTelemetry: the layer, and what it makes of operations. `layer` needs no package of OpenTelemetry."""
