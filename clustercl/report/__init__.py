"""One self-contained page about a run: `clustercl.report.html.write_report`."""
