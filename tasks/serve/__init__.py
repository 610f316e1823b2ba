"""What leaves the loop: runs, registered models, verdicts, cards and results."""
