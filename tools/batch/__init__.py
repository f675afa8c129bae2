"""Many rows of one workflow: the prompts file, the manifest, the run on one host, the table of scores."""
