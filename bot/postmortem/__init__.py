"""From the journal to a postmortem: ``build`` makes the document, ``render`` its three forms.

Everything but ``render`` is pure. The journal's records are the only source: what no record
says is UNKNOWN, and every sentence and number names the records that it was taken from.
"""
