"""Attention: exact in tiles, in linear time, and with a receipt for what differs.

Every member is a frozen dataclass that follows `protocol.Attention`.
"""
