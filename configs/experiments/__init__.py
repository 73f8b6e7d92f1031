"""Configs of the runs behind docs/evidence.md; each module holds `RUNS` and `get_config(run)`."""
