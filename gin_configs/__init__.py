"""The packaged gin files: models/ one a size, runs/ one a job kind, experiments/ whole recipes."""
