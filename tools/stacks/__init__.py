# SPDX-License-Identifier: MIT
"""What tools/check_stacks.py is made of: which tests, the program that runs them, and the comparison."""
