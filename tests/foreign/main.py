"""Runs every test_*.py beside it and closes with the counts in the form .ci/run adds up."""
import sys
import unittest

if __name__ == "__main__":
    result = unittest.TextTestRunner(verbosity=2).run(unittest.defaultTestLoader.discover(".", "test_*.py"))
    bad = len(result.failures) + len(result.errors)
    print(f"{max(result.testsRun - bad, 0)} passed, {bad} failed", flush=True)
    sys.exit(0 if result.wasSuccessful() and result.testsRun > 0 else 1)
