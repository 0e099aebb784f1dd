"""Multipole attention: pretrained weights as they are, long texts, no training.

From the bottom: `tree` and `plan` say which keys and queries stand together, `far` what blocks of
keys contribute unseen, `near` which keys a group of queries meets one by one, `head` mixes one
head; `price` says what a plan costs, `survey` what it would hide, and `choice` finds the cheapest
one that is measured to be good enough. `engine` is what is called; `certificate` and `receipts`
tell what was lost.
"""

from unabridged.attention.multipole.engine import Multipole as Multipole

__all__ = ["Multipole"]
