"""Observing by Prometheus: the layer, and its metrics. `layer` does not need prometheus-client."""
