"""The statistics: crossed tests, clusters, corrections, power."""
