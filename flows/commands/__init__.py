"""One function a command; each takes the parsed arguments and returns an exit code or nothing."""
