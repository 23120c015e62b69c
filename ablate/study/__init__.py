"""Many runs: what a study declares, its cells, where they stand, and how they are worked through."""
