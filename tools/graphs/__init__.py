"""The shipped workflows as Python: what `tools/write_workflows.py` turns into both JSON formats."""
