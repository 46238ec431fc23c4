"""From a recording to what a person or a program reads: one model, drawn as text or JSON."""
