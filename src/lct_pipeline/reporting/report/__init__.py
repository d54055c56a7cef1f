"""The report of a run: one HTML file for somebody who was not there."""
