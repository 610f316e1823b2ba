"""What is done: plain functions and frozen dataclasses that know no engine and no environment."""
