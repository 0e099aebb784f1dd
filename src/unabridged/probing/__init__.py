"""Above the encoder and the collection: which reader finds most in somebody's own documents.

    documents ─ prepare ─► task ─ contest ─► standings ─ decide ─► verdict

Queries are titles, sentences of the documents, and questions about facts planted in them.
"""
