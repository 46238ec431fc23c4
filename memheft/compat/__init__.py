"""Modules that stand in for others."""
