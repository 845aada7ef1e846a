"""Signatures of registered versions, and their verification. docs/verification.md describes both."""
