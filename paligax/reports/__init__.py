"""Pictures for people: the report of a run, contact sheets, plots. Pages are self-contained and need no network."""
