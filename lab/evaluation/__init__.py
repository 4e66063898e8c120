"""Measures of a model beside its grade; docs/metrics.md defines each."""
