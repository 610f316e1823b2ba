"""Figures with intervals, comparisons, calibration, leak alarms and pictures, from arrays only."""
