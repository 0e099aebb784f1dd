"""Faces that other libraries know: one file a library, imported only by those who ask for it."""
