# SPDX-License-Identifier: BSD-3-Clause
"""The version of this package: that of the library whose header it declares."""

__version__ = "1.0.0"
