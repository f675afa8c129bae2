"""A seeded fuzzer over everything that reads what somebody else wrote; `tools/fuzz.py` runs it."""
