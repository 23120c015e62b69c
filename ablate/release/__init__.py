"""A finished run given away: found, described, exported, made again."""
