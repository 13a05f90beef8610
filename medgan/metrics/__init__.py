"""Metrics: images become features (`medgan.metrics.extractors`), features become numbers.

`medgan.metrics.functional` holds the functions, `medgan.metrics.streaming` the classes that take their input in pieces,
`medgan.metrics.features` extraction with a cache.
"""
