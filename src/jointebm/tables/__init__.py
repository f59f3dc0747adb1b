"""Tables: one joint energy over rows of codes, whatever is missing.

`TableModel` works on codes only; `TableCodec` turns frames into codes and back.
"""
