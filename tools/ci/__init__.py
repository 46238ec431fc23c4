# SPDX-License-Identifier: MIT
"""What tools/test is made of: finding interpreters, a Debian root for the newest ones, and the steps."""
