"""Proofs that nothing leaks across the borders that split drew, and probes of the data's own shortcuts."""
