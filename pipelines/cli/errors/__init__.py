"""Errors of the command line: how they are printed, and explanations of those from outside."""
