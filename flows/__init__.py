"""When, where and how often: Prefect flows, runners, settings and the command line."""
